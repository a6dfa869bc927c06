#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "arrays.h"
#include "init.h"
#include "mxrec/checkpoint.h"
#include "py_table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

WarmStartOptions ParseOptions(const std::string& slots, const std::string& mode, bool int32_keys) {
  if (slots != "keep" && slots != "reset") {
    Check(InvalidArgument("slots must be 'keep' or 'reset', got '" + slots + "'"));
  }
  if (mode != "replace" && mode != "merge") {
    Check(InvalidArgument("mode must be 'replace' or 'merge', got '" + mode + "'"));
  }
  return {.slots = slots == "keep" ? WarmStartSlots::kKeep : WarmStartSlots::kReset,
          .mode = mode == "replace" ? WarmStartMode::kReplace : WarmStartMode::kMerge,
          .int32_keys = int32_keys};
}

int64_t AddCheckpoint(WarmStart& self, const std::vector<std::string>& dirs,
                      const std::string& slots, const std::string& mode, bool int32_keys) {
  const WarmStartOptions options = ParseOptions(slots, mode, int32_keys);
  return Unwrap(Unlocked([&] { return self.AddCheckpoint(dirs, options); }));
}

int64_t AddMatrix(WarmStart& self, nb::handle values_array, const std::string& mode,
                  bool int32_keys) {
  const WarmStartOptions options = ParseOptions("reset", mode, int32_keys);
  const ArrayView<const float> values(values_array, "values", {-1, self.dim()});
  return Unwrap(Unlocked(
      [&] { return self.AddMatrix(values.data(), static_cast<int64_t>(values.rows()), options); }));
}

}  // namespace

void InitWarmStart(nb::module_& m) {
  nb::class_<WarmStart>(m, "WarmStart",
                        "Rows of other models, put together beside a table; commit() swaps them\n"
                        "in. After an error the table is as it was.")
      .def(
          "__init__",
          [](WarmStart* self, const PyTable& table) { new (self) WarmStart(table.table); },
          "table"_a)
      .def(
          "add_checkpoint", &AddCheckpoint, "dirs"_a, nb::kw_only(), "slots"_a = "keep",
          "mode"_a = "replace", "int32_keys"_a = false,
          "Adds the rows of a saved table, a full checkpoint and its deltas in order; returns how\n"
          "many. slots: 'keep' or 'reset', mode: 'replace' or 'merge'. int32_keys: refuse others.")
      .def("add_matrix", &AddMatrix, "values"_a.none(), nb::kw_only(), "mode"_a = "replace",
           "int32_keys"_a = false,
           nb::sig("def add_matrix(self, values: numpy.typing.NDArray[numpy.float32], *, "
                   "mode: str = 'replace', int32_keys: bool = False) -> int"),
           "Adds rows [n, dim]: row i becomes key i. Returns n.")
      .def("commit", [](WarmStart& self) { Check(Unlocked([&] { return self.Commit(); })); });
}

}  // namespace mxrec::python
