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
  d["parent"] = info.parent;
  d["parent_step"] = info.parent_step;
  d["erased"] = info.gone;
  d["left_out"] = info.left_out;
  d["bytes"] = info.bytes;
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
      "What a saved table is: uid, step, rows, optimizer_step and the table's options; of a delta\n"
      "also parent and parent_step, and how many keys were erased and left_out.");
  m.def(
      "verify_checkpoint",
      [](const std::string& dir) {
        return ToDict(Unwrap(Unlocked([&] { return VerifyCheckpoint(dir); })));
      },
      "dir"_a, nb::sig("def verify_checkpoint(dir: str) -> dict[str, typing.Any]"),
      "Reads every byte of one checkpoint or delta. OSError names file and offset of damage.");
  m.def(
      "checksum",
      [](nb::bytes data) {
        return Checksum({data.c_str(), data.size()});
      },
      "data"_a, "XXH3-64 with seed 0, as in every file of a checkpoint.");
}

}  // namespace mxrec::python
