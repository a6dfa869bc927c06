// What a Python Table holds. Python objects are not owned by the engine's registry, so that a
// table may be released by a thread that has no GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <utility>

#include "errors.h"
#include "mxrec/table.h"

namespace mxrec::python {

struct PyTable {
  std::shared_ptr<Table> table;

  Table* operator->() const { return table.get(); }
};

// Pooled calls (pooling.cc).
void DefinePooledCalls(nanobind::class_<PyTable>& type);

// Runs `work` without the GIL. A Status it returns is thrown with the GIL held again.
template <class F>
auto Unlocked(F&& work) {
  nanobind::gil_scoped_release release;
  return std::forward<F>(work)();
}

}  // namespace mxrec::python
