#include "mxrec/runtime.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>

#include "init.h"
#include "py_table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

Result<GatherMode> GatherModeOf(const std::string& name) {
  for (const GatherMode mode : {GatherMode::kHighPerformance, GatherMode::kHighPrecision}) {
    if (name == GatherModeName(mode)) return mode;
  }
  return InvalidArgument("mode must be 'high_performance' or 'high_precision', got '" + name + "'");
}

}  // namespace

void InitRuntime(nb::module_& m) {
  m.def(
      "register_table",
      [](const std::string& name, const PyTable& table) {
        Check(Unlocked([&] { return RegisterTable(name, table.table); }));
      },
      "name"_a, "table"_a, "Makes a table known by name to the TensorFlow ops of this process.");
  m.def(
      "find_table",
      [](const std::string& name) -> std::optional<PyTable> {
        auto table = Unlocked([&] { return FindTable(name); });
        if (table == nullptr) return std::nullopt;
        return PyTable{std::move(table)};
      },
      "name"_a, "The table that is registered by this name; None where there is none.");
  m.def(
      "unregister_table",
      [](const std::string& name) { return Unlocked([&] { return UnregisterTable(name); }); },
      "name"_a, "False: no table had this name.");
  m.def("registered_tables", &RegisteredTables, "Names, sorted.");
  m.def(
      "set_num_threads", [](int n) { Check(Unlocked([&] { return SetNumThreads(n); })); }, "n"_a,
      "Threads that work on a batch, the calling one included; [1, 1024].");
  m.def("num_threads", &NumThreads);
  m.def(
      "set_thread_binding", [](bool bound) { Unlocked([&] { SetThreadBinding(bound); }); },
      "bound"_a, "Binds each worker thread to one processor, or lets them roam.");
  m.def("thread_binding", &ThreadBinding);
  m.def(
      "end_threads", [] { Unlocked([] { EndThreads(); }); },
      "Ends the worker threads; the next call that wants them starts new ones.");
  m.def(
      "set_gather_mode", [](const std::string& mode) { SetGatherMode(Unwrap(GatherModeOf(mode))); },
      "mode"_a, "How lookups move rows: 'high_performance' or 'high_precision'.");
  m.def("gather_mode", [] { return GatherModeName(GetGatherMode()); });
  m.def("version", &Version);
  m.def(
      "compiler", [] { return MXREC_COMPILER; }, "Compiler and flags of this build.");
}

}  // namespace mxrec::python
