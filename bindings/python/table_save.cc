#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "checkpoint_info.h"
#include "init.h"
#include "mxrec/checkpoint.h"
#include "py_table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

[[noreturn]] void ThrowEnded() {
  throw StatusError(FailedPrecondition("this save has been finished; begin another one"));
}

}  // namespace

TableSave BeginSave(const PyTable& table, int64_t step, const std::string& parent, bool tracks,
                    int64_t recent_threshold) {
  auto snapshot = Unlocked([&] {
    return table->BeginSnapshot(
        {.parent = parent, .tracks = tracks, .recent_threshold = recent_threshold});
  });
  return {table.table, Unwrap(std::move(snapshot)), step};
}

nb::dict TableSave::Write(const std::string& dir) {
  if (!snapshot_.has_value()) ThrowEnded();
  if (!uid_.empty()) Check(FailedPrecondition("this save has been written; begin another one"));
  const CheckpointInfo info =
      Unwrap(Unlocked([&] { return WriteSnapshot(&*snapshot_, dir, step_); }));
  uid_ = info.uid;
  return ToDict(info);
}

void TableSave::Finish(bool saved) {
  if (!snapshot_.has_value()) ThrowEnded();
  if (saved && uid_.empty()) {
    Check(FailedPrecondition("nothing has been written: call write(dir) first, or finish(False)"));
  }
  Unlocked([&] { snapshot_->End(saved ? uid_ : std::string(), step_); });
  snapshot_.reset();
}

void InitTableSave(nb::module_& m) {
  nb::class_<TableSave>(m, "TableSave", "A table as it was at one instant, to be written.")
      .def("write", &TableSave::Write, "dir"_a,
           nb::sig("def write(self, dir: str) -> dict[str, typing.Any]"),
           "Writes the new directory `dir`, synced; an error leaves nothing of it. Once.")
      .def(
          "finish", &TableSave::Finish, "saved"_a,
          "True: the version stands, and with `tracks` the next delta builds on it. False: it was\n"
          "given up.");
}

}  // namespace mxrec::python
