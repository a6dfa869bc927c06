#include "mxrec/table.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "arrays.h"
#include "checkpoint_info.h"
#include "init.h"
#include "mxrec/checkpoint.h"
#include "option_names.h"
#include "py_table.h"
#include "timestamps.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

using Cursor = std::pair<uint32_t, uint64_t>;

// The core spells "choose" as 0, so that a 0 from Python must not pass for it.
int ShardCount(std::optional<int> num_shards) {
  if (num_shards.has_value() && *num_shards < 1) {
    Check(InvalidArgument("num_shards must be a power of two in [1, " + std::to_string(kMaxShards) +
                          "], got " + std::to_string(*num_shards) +
                          "; None chooses it from this machine"));
  }
  return num_shards.value_or(0);
}

PyTable Create(std::string name, int dim, std::optional<int64_t> memory_rows, uint64_t seed,
               std::optional<int> num_shards, const std::optional<OptimizerOptions>& optimizer,
               const std::optional<InitializerOptions>& initializer,
               std::vector<int64_t> padding_keys, const std::string& value_dtype,
               bool stochastic_rounding, bool use_hot, const AdmissionOptions& admission,
               const EvictionOptions& eviction, int64_t ssd_rows,
               std::vector<std::string> ssd_paths) {
  // The core spells "no limit" as 0.
  if (memory_rows.has_value() && *memory_rows < 1) {
    Check(InvalidArgument("memory_rows must be at least 1, got " + std::to_string(*memory_rows) +
                          "; None lets the table grow without limit"));
  }
  TableOptions options;
  options.name = std::move(name);
  options.dim = dim;
  options.memory_rows = memory_rows.value_or(0);
  options.seed = seed;
  options.num_shards = ShardCount(num_shards);
  options.optimizer = optimizer.value_or(OptimizerOptions{});
  options.initializer = initializer.value_or(InitializerOptions{.kind = InitializerKind::kUniform});
  options.padding_keys = std::move(padding_keys);
  options.value_type = ParseValueType(value_dtype);
  options.stochastic_rounding = stochastic_rounding;
  options.use_hot = use_hot;
  options.admission = admission;
  options.eviction = eviction;
  options.ssd_rows = ssd_rows;
  options.ssd_paths = std::move(ssd_paths);
  return {Unwrap(Unlocked([&] { return Table::Create(options); }))};
}

void LookupTo(const PyTable& self, const KeyArray& keys, bool train, const Timestamps& timestamps,
              float* out) {
  Check(Unlocked([&] {
    return train ? self->LookupOrInsert(keys.span(), out, {.timestamps = timestamps.span()})
                 : self->Lookup(keys.span(), nullptr, out);
  }));
}

nb::object Lookup(const PyTable& self, nb::handle keys_array, bool train, nb::handle timestamp) {
  const KeyArray keys(keys_array, "keys");
  const Timestamps timestamps(timestamp);
  NewArray<float> out({keys.size(), static_cast<size_t>(self->dim())});
  LookupTo(self, keys, train, timestamps, out.data);
  return out.array;
}

void LookupInto(const PyTable& self, nb::handle keys_array, nb::handle out_array, bool train,
                nb::handle timestamp) {
  const KeyArray keys(keys_array, "keys");
  const Timestamps timestamps(timestamp);
  const ArrayView<float> out(out_array, "out", {static_cast<int64_t>(keys.size()), self->dim()});
  LookupTo(self, keys, train, timestamps, out.data());
}

nb::object Counts(const PyTable& self, nb::handle keys_array) {
  const KeyArray keys(keys_array, "keys");
  NewArray<int64_t> out({keys.size()});
  Check(Unlocked([&] { return self->Counts(keys.span(), out.data); }));
  return out.array;
}

std::pair<int64_t, int64_t> ApplyGradients(const PyTable& self, nb::handle keys_array,
                                           nb::handle grads_array,
                                           std::optional<float> learning_rate) {
  const KeyArray keys(keys_array, "keys");
  const ArrayView<const float> grads(grads_array, "grads",
                                     {static_cast<int64_t>(keys.size()), self->dim()});
  ApplyResult result;
  Check(Unlocked(
      [&] { return self->ApplyGradients(keys.span(), grads.data(), learning_rate, &result); }));
  return {result.updated, result.skipped};
}

void Assign(const PyTable& self, nb::handle keys_array, nb::handle values_array) {
  const KeyArray keys(keys_array, "keys");
  const ArrayView<const float> values(values_array, "values",
                                      {static_cast<int64_t>(keys.size()), self->dim()});
  Check(Unlocked([&] { return self->Assign(keys.span(), values.data()); }));
}

nb::object Contains(const PyTable& self, nb::handle keys_array) {
  const KeyArray keys(keys_array, "keys");
  NewArray<bool> out({keys.size()});
  Check(Unlocked([&] { return self->Contains(keys.span(), out.data); }));
  return out.array;
}

int64_t Erase(const PyTable& self, nb::handle keys_array) {
  const KeyArray keys(keys_array, "keys");
  return Unwrap(Unlocked([&] { return self->Erase(keys.span()); }));
}

nb::object Missing(const PyTable& self, nb::handle keys_array) {
  const KeyArray keys(keys_array, "keys");
  std::vector<int64_t> missing;
  Check(Unlocked([&] { return self->Missing(keys.span(), &missing); }));
  return NewArray<int64_t>(missing).array;
}

void Prefetch(const PyTable& self, nb::handle keys_array) {
  const KeyArray keys(keys_array, "keys");
  Check(Unlocked([&] { return self->Prefetch(keys.span()); }));
}

nb::tuple Scan(const PyTable& self, Cursor start, int64_t max_rows) {
  ScanCursor cursor{start.first, start.second};
  RowBlock block;
  Check(Unlocked([&] { return self->Scan(&cursor, max_rows, &block); }));
  const size_t n = block.size();
  const auto dim = static_cast<size_t>(self->dim());
  // Of this block: another thread may bind an optimizer in between.
  const size_t width = n > 0 ? block.values.size() / n : static_cast<size_t>(self->row_floats());
  NewArray<float> values({n, dim});
  NewArray<float> slots({n, width - dim});
  for (size_t i = 0; i < n; ++i) {
    const float* row = block.values.data() + i * width;
    std::copy(row, row + dim, values.data + i * dim);
    std::copy(row + dim, row + width, slots.data + i * (width - dim));
  }
  return nb::make_tuple(nb::make_tuple(cursor.shard, cursor.position),
                        NewArray<int64_t>(block.keys).array, values.array, slots.array,
                        NewArray<uint32_t>(block.frequency).array,
                        NewArray<uint32_t>(block.last_time).array);
}

#define MXREC_KEYS "keys: numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32]"
#define MXREC_FLOATS "numpy.typing.NDArray[numpy.float32]"
#define MXREC_TIMES \
  "int | numpy.typing.NDArray[numpy.int64] | numpy.typing.NDArray[numpy.int32] | None"

// none(): a None reaches the checks of arrays.h, whose message names the parameter.
void DefineBatchCalls(nb::class_<PyTable>& type) {
  type.def("lookup", &Lookup, "keys"_a.none(), "train"_a = true, "timestamp"_a = nb::none(),
           nb::sig("def lookup(self, " MXREC_KEYS ", train: bool = True, timestamp: " MXREC_TIMES
                   " = None) -> " MXREC_FLOATS),
           "Rows of keys, [n, dim].")
      .def("lookup_into", &LookupInto, "keys"_a.none(), "out"_a.none(), "train"_a = true,
           "timestamp"_a = nb::none(),
           nb::sig("def lookup_into(self, " MXREC_KEYS ", out: " MXREC_FLOATS
                   ", train: bool = True, timestamp: " MXREC_TIMES " = None) -> None"))
      .def("counts", &Counts, "keys"_a.none(),
           nb::sig("def counts(self, " MXREC_KEYS ") -> numpy.typing.NDArray[numpy.int64]"),
           "How often keys were used in training, times their coefficients.")
      .def("apply_gradients", &ApplyGradients, "keys"_a.none(), "grads"_a.none(), nb::kw_only(),
           "learning_rate"_a = nb::none(),
           nb::sig("def apply_gradients(self, " MXREC_KEYS ", grads: " MXREC_FLOATS
                   ", *, learning_rate: float | None = None) -> tuple[int, int]"),
           "Returns the rows updated and the distinct keys skipped.")
      .def("assign", &Assign, "keys"_a.none(), "values"_a.none(),
           nb::sig("def assign(self, " MXREC_KEYS ", values: " MXREC_FLOATS ") -> None"))
      .def("contains", &Contains, "keys"_a.none(),
           nb::sig("def contains(self, " MXREC_KEYS ") -> numpy.typing.NDArray[numpy.bool_]"))
      .def("erase", &Erase, "keys"_a.none(), nb::sig("def erase(self, " MXREC_KEYS ") -> int"))
      .def("missing", &Missing, "keys"_a.none(),
           nb::sig("def missing(self, " MXREC_KEYS ") -> numpy.typing.NDArray[numpy.int64]"),
           "Distinct keys for which a training lookup would make a row, in the order of first\n"
           "occurrence.")
      .def("prefetch", &Prefetch, "keys"_a.none(),
           nb::sig("def prefetch(self, " MXREC_KEYS ") -> None"),
           "Begins to read the rows of keys that are on SSD.")
      .def("scan", &Scan, "cursor"_a, "max_rows"_a,
           nb::sig("def scan(self, cursor: tuple[int, int], max_rows: int) -> tuple[tuple[int, int]"
                   ", numpy.typing.NDArray[numpy.int64], " MXREC_FLOATS ", " MXREC_FLOATS
                   ", numpy.typing.NDArray[numpy.uint32], numpy.typing.NDArray[numpy.uint32]]"),
           "The next rows: cursor, keys [n], values [n, dim], slots [n, slots * dim], frequency\n"
           "[n], last_time [n]. Start at (0, 0); n is 0 at the end.");
}

using OneOrMany = std::variant<std::string, std::vector<std::string>>;

std::vector<std::string> ToList(const OneOrMany& dirs) {
  if (const auto* one = std::get_if<std::string>(&dirs)) return {*one};
  return std::get<std::vector<std::string>>(dirs);
}

void DefineStorage(nb::class_<PyTable>& type) {
  type.def(
          "save",
          [](const PyTable& self, const std::string& dir, int64_t step) {
            return ToDict(Unwrap(Unlocked([&] { return SaveTable(*self.table, dir, step); })));
          },
          "dir"_a, "step"_a = 0,
          nb::sig("def save(self, dir: str, step: int = 0) -> dict[str, typing.Any]"))
      .def(
          "restore",
          [](const PyTable& self, const OneOrMany& dirs, bool tracks, bool counts_recent) {
            const RestoreOptions options{.tracks = tracks, .counts_recent = counts_recent};
            return ToDict(Unwrap(
                Unlocked([&] { return RestoreTable(self.table.get(), ToList(dirs), options); })));
          },
          "dir"_a, nb::kw_only(), "tracks"_a = false, "counts_recent"_a = false,
          nb::sig("def restore(self, dir: str | list[str], *, tracks: bool = False, "
                  "counts_recent: bool = False) -> dict[str, typing.Any]"),
          "Replaces the rows by those of a full checkpoint, or of one and its deltas in order. On\n"
          "an error the table is as it was. tracks: the next save may be a delta to this version.")
      .def(
          "begin_save", &BeginSave, nb::kw_only(), "step"_a, "parent"_a = "", "tracks"_a = false,
          "recent_threshold"_a = 0,
          "Fixes what is to be saved: the rows of now. parent: the uid of the version to which it\n"
          "is a delta. Waits for the end of another save.")
      .def_prop_ro(
          "lineage", [](const PyTable& self) { return Unlocked([&] { return self->lineage(); }); },
          "Uid of the version since which changes are counted; '' if they are not.")
      .def_static(
          "load",
          [](const OneOrMany& dirs, std::optional<int> num_shards) {
            const int shards = ShardCount(num_shards);
            return PyTable{Unwrap(Unlocked([&] { return LoadTable(ToList(dirs), shards); }))};
          },
          "dir"_a, "num_shards"_a = nb::none(),
          nb::sig("def load(dir: str | list[str], num_shards: int | None = None) -> Table"));
}

void DefineState(nb::class_<PyTable>& type) {
  type.def_prop_ro("name", [](const PyTable& self) { return self->name(); })
      .def_prop_ro("dim", [](const PyTable& self) { return self->dim(); })
      .def_prop_ro(
          "capacity", [](const PyTable& self) { return OptionalCount(self->capacity()); },
          nb::sig("def capacity(self) -> int | None"), "Rows; None: grows without limit.")
      .def_prop_ro(
          "memory_rows",
          [](const PyTable& self) {
            const int64_t rows = self->options().memory_rows;
            return OptionalCount(rows == 0 ? kUnbounded : rows);
          },
          nb::sig("def memory_rows(self) -> int | None"),
          "Rows that memory holds; None: grows without limit.")
      .def_prop_ro("ssd_rows", [](const PyTable& self) { return self->options().ssd_rows; })
      .def_prop_ro("ssd_paths", [](const PyTable& self) { return self->options().ssd_paths; })
      .def_prop_ro(
          "optimizer", [](const PyTable& self) { return self->options().optimizer; },
          "The optimizer that is bound now.")
      .def_prop_ro("initializer", [](const PyTable& self) { return self->options().initializer; })
      .def_prop_ro("seed", [](const PyTable& self) { return self->options().seed; })
      .def_prop_ro("num_shards", [](const PyTable& self) { return self->options().num_shards; })
      .def_prop_ro("padding_keys", [](const PyTable& self) { return self->options().padding_keys; })
      .def_prop_ro(
          "value_dtype",
          [](const PyTable& self) { return ValueTypeName(self->options().value_type); },
          "How embeddings are stored: 'float32', 'float16' or 'bfloat16'.")
      .def_prop_ro("stochastic_rounding",
                   [](const PyTable& self) { return self->options().stochastic_rounding; })
      .def_prop_ro("use_hot", [](const PyTable& self) { return self->options().use_hot; })
      .def_prop_ro("optimizer_step", [](const PyTable& self) { return self->optimizer_step(); })
      .def_prop_ro(
          "version", [](const PyTable& self) { return self->version(); },
          "Changes with every change of the rows.")
      .def_prop_ro("closed", [](const PyTable& self) { return self->closed(); })
      .def(
          "bind_optimizer",
          [](const PyTable& self, const OptimizerOptions& optimizer) {
            Check(Unlocked([&] { return self->BindOptimizer(optimizer); }));
          },
          "optimizer"_a, "A bound optimizer is replaced only by one of the same kind.")
      .def_prop_ro("admission", [](const PyTable& self) { return self->options().admission; })
      .def_prop_ro("eviction", [](const PyTable& self) { return self->options().eviction; })
      .def(
          "configure_admission",
          [](const PyTable& self, const AdmissionOptions& admission) {
            Check(Unlocked([&] { return self->ConfigureAdmission(admission); }));
          },
          "admission"_a, "Turns admission on; what is on can only be given again.")
      .def(
          "configure_eviction",
          [](const PyTable& self, const EvictionOptions& eviction) {
            Check(Unlocked([&] { return self->ConfigureEviction(eviction); }));
          },
          "eviction"_a, "Replaces the rules of evict().")
      .def(
          "set_threshold",
          [](const PyTable& self, int64_t threshold) {
            Check(Unlocked([&] { return self->SetThreshold(threshold); }));
          },
          "threshold"_a, "0 keeps the threshold and stops counting.")
      .def(
          "evict",
          [](const PyTable& self, std::optional<int64_t> now, std::optional<int64_t> budget) {
            return Unwrap(Unlocked([&] { return self->Evict(now, budget); }));
          },
          "now"_a = nb::none(), "budget"_a = nb::none(), "Returns the rows freed by this call.")
      .def("stats", &Stats, nb::sig("def stats(self) -> dict[str, typing.Any]"))
      .def(
          "close", [](const PyTable& self) { Unlocked([&] { self->Close(); }); },
          "Waits for the calls in progress and releases all rows.")
      .def("__len__", [](const PyTable& self) { return self->size(); })
      .def(
          "__eq__",
          [](const PyTable& self, nb::handle other) {
            return nb::isinstance<PyTable>(other) &&
                   nb::cast<const PyTable&>(other).table == self.table;
          },
          nb::sig("def __eq__(self, arg: object, /) -> bool"), "The same table, not equal rows.")
      .def("__hash__",
           [](const PyTable& self) { return std::hash<std::shared_ptr<Table>>{}(self.table); })
      .def("__repr__", [](const PyTable& self) {
        return "Table('" + self->name() + "', dim=" + std::to_string(self->dim()) +
               (self->closed() ? ", closed)" : ", rows=" + std::to_string(self->size()) + ")");
      });
}

}  // namespace

void InitTable(nb::module_& m) {
  nb::class_<PyTable> type(m, "Table", "An embedding table; see mxrec.Table.");
  type.def(
      "__init__",
      [](PyTable* self, std::string name, int dim, std::optional<int64_t> memory_rows,
         uint64_t seed, std::optional<int> num_shards, std::optional<OptimizerOptions> optimizer,
         std::optional<InitializerOptions> initializer, std::vector<int64_t> padding_keys,
         const std::string& value_dtype, bool stochastic_rounding, bool use_hot,
         std::optional<AdmissionOptions> admission, std::optional<EvictionOptions> eviction,
         int64_t ssd_rows, std::vector<std::string> ssd_paths) {
        new (self)
            PyTable(Create(std::move(name), dim, memory_rows, seed, num_shards, optimizer,
                           initializer, std::move(padding_keys), value_dtype, stochastic_rounding,
                           use_hot, admission.value_or(AdmissionOptions{}),
                           eviction.value_or(EvictionOptions{}), ssd_rows, std::move(ssd_paths)));
      },
      "name"_a, "dim"_a, nb::kw_only(), "memory_rows"_a = nb::none(), "seed"_a = 0,
      "num_shards"_a = nb::none(), "optimizer"_a = nb::none(), "initializer"_a = nb::none(),
      "padding_keys"_a = std::vector<int64_t>{},
      "value_dtype"_a = ValueTypeName(ValueType::kFloat32), "stochastic_rounding"_a = false,
      "use_hot"_a = true, "admission"_a = nb::none(), "eviction"_a = nb::none(), "ssd_rows"_a = 0,
      "ssd_paths"_a = std::vector<std::string>{});
  DefineBatchCalls(type);
  DefinePooledCalls(type);
  DefineStorage(type);
  DefineState(type);
}

}  // namespace mxrec::python
