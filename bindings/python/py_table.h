// What a Python Table holds. Python objects are not owned by the engine's registry, so that a
// table may be released by a thread that has no GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "errors.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"

namespace mxrec::python {

struct PyTable {
  std::shared_ptr<Table> table;

  Table* operator->() const { return table.get(); }
};

// A table's save under way (table_save.cc).
class TableSave {
 public:
  TableSave(std::shared_ptr<Table> table, Snapshot snapshot, int64_t step)
      : table_(std::move(table)), snapshot_(std::move(snapshot)), step_(step) {}
  nanobind::dict Write(const std::string& dir);
  void Finish(bool saved);

 private:
  std::shared_ptr<Table> table_;  // outlives the snapshot
  std::optional<Snapshot> snapshot_;
  const int64_t step_;
  std::string uid_;  // of what has been written
};
TableSave BeginSave(const PyTable& table, int64_t step, const std::string& parent, bool tracks,
                    int64_t recent_threshold);

// Table.stats() (table_stats.cc).
nanobind::dict Stats(const PyTable& table);
// None: without limit.
nanobind::object OptionalCount(int64_t count);

// Pooled calls (pooling.cc).
void DefinePooledCalls(nanobind::class_<PyTable>& type);

// Runs `work` without the GIL. A Status it returns is thrown with the GIL held again.
template <class F>
auto Unlocked(F&& work) {
  nanobind::gil_scoped_release release;
  return std::forward<F>(work)();
}

}  // namespace mxrec::python
