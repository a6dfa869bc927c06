#include "mxrec/checkpoint.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "checkpoint_info.h"
#include "init.h"
#include "py_table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {

nb::dict ToDict(const CheckpointInfo& info) {
  const TableOptions& options = info.options;
  nb::dict d;
  d["uid"] = info.uid;
  d["step"] = info.step;
  d["rows"] = info.rows;
  d["optimizer_step"] = info.optimizer_step;
  d["name"] = options.name;
  d["dim"] = options.dim;
  d["memory_rows"] =
      options.memory_rows == 0 ? nb::object(nb::none()) : nb::object(nb::int_(options.memory_rows));
  d["seed"] = options.seed;
  d["num_shards"] = options.num_shards;
  d["optimizer"] = options.optimizer;
  d["initializer"] = options.initializer;
  d["padding_keys"] = options.padding_keys;
  d["value_dtype"] = ValueTypeName(options.value_type);
  d["stochastic_rounding"] = options.stochastic_rounding;
  d["admission"] = options.admission;
  d["eviction"] = options.eviction;
  return d;
}

void InitCheckpoint(nb::module_& m) {
  m.def(
      "read_checkpoint_info",
      [](const std::string& dir) {
        return ToDict(Unwrap(Unlocked([&] { return ReadCheckpointInfo(dir); })));
      },
      "dir"_a, nb::sig("def read_checkpoint_info(dir: str) -> dict[str, typing.Any]"),
      "What a saved table is: uid, step, rows, optimizer_step and the table's options.");
}

}  // namespace mxrec::python
