#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <utility>

#include "arrays.h"
#include "init.h"
#include "mxrec/table_types.h"
#include "py_table.h"
#include "timestamps.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

// A batch of keys in bags, as arrays of the caller.
class PooledBatch {
 public:
  PooledBatch(nb::handle keys, nb::handle offsets, nb::handle weights, const std::string& combiner)
      : keys_(keys, "keys"), offsets_(offsets, "offsets", {-1}) {
    const std::optional<Combiner> known = CombinerFromName(combiner);
    if (!known) {
      Check(InvalidArgument("combiner must be 'sum', 'mean' or 'sqrtn', got '" + combiner + "'"));
    }
    combiner_ = *known;
    if (!weights.is_none()) {
      weights_.emplace(weights, "weights",
                       std::initializer_list<int64_t>{static_cast<int64_t>(keys_.size())});
    }
    Check(Validate(bags(), keys_.size()));
  }
  KeySpan keys() const { return keys_.span(); }
  Bags bags() const {
    return {.offsets = offsets_.span(),
            .weights = weights_ ? weights_->data() : nullptr,
            .combiner = combiner_};
  }

 private:
  KeyArray keys_;
  ArrayView<const int64_t> offsets_;
  std::optional<ArrayView<const float>> weights_;
  Combiner combiner_ = Combiner::kSum;
};

nb::object LookupPooled(const PyTable& self, nb::handle keys, nb::handle offsets,
                        nb::handle weights, const std::string& combiner, bool train,
                        nb::handle timestamp) {
  const PooledBatch batch(keys, offsets, weights, combiner);
  const Timestamps timestamps(timestamp);
  const Bags bags = batch.bags();
  NewArray<float> out({bags.size(), static_cast<size_t>(self->dim())});
  Check(Unlocked([&] {
    return train ? self->LookupOrInsertPooled(batch.keys(), bags, out.data,
                                              {.timestamps = timestamps.span()})
                 : self->LookupPooled(batch.keys(), bags, nullptr, out.data);
  }));
  return out.array;
}

std::pair<int64_t, int64_t> ApplyPooledGradients(const PyTable& self, nb::handle keys,
                                                 nb::handle offsets, nb::handle grads_array,
                                                 nb::handle weights, const std::string& combiner,
                                                 std::optional<float> learning_rate) {
  const PooledBatch batch(keys, offsets, weights, combiner);
  const Bags bags = batch.bags();
  const ArrayView<const float> grads(grads_array, "grads",
                                     {static_cast<int64_t>(bags.size()), self->dim()});
  ApplyResult result;
  Check(Unlocked([&] {
    return self->ApplyPooledGradients(batch.keys(), bags, grads.data(), learning_rate, &result);
  }));
  return {result.updated, result.skipped};
}

}  // namespace

#define MXREC_INT64S "numpy.typing.NDArray[numpy.int64]"
#define MXREC_KEYS "keys: " MXREC_INT64S " | numpy.typing.NDArray[numpy.int32]"
#define MXREC_FLOATS "numpy.typing.NDArray[numpy.float32]"

// none(): a None reaches the checks of arrays.h, whose message names the parameter.
void DefinePooledCalls(nb::class_<PyTable>& type) {
  type.def("lookup_pooled", &LookupPooled, "keys"_a.none(), "offsets"_a.none(),
           "weights"_a = nb::none(), "combiner"_a = "sum", "train"_a = true,
           "timestamp"_a = nb::none(),
           nb::sig("def lookup_pooled(self, " MXREC_KEYS ", offsets: " MXREC_INT64S
                   ", weights: " MXREC_FLOATS " | None = None, combiner: str = 'sum', train: bool "
                   "= True, timestamp: int | " MXREC_INT64S
                   " | numpy.typing.NDArray[numpy.int32] | None = None) -> " MXREC_FLOATS),
           "One row per bag, [bags, dim].")
      .def("apply_pooled_gradients", &ApplyPooledGradients, "keys"_a.none(), "offsets"_a.none(),
           "grads"_a.none(), "weights"_a = nb::none(), "combiner"_a = "sum", nb::kw_only(),
           "learning_rate"_a = nb::none(),
           nb::sig("def apply_pooled_gradients(self, " MXREC_KEYS ", offsets: " MXREC_INT64S
                   ", grads: " MXREC_FLOATS ", weights: " MXREC_FLOATS
                   " | None = None, combiner: str = 'sum', *, learning_rate: float | None = None)"
                   " -> tuple[int, int]"),
           "grads: of the bags, [bags, dim]. Returns as apply_gradients.");
}

}  // namespace mxrec::python
