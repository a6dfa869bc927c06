// What a table holds: its size and capacity, the keys it lacks, and putting them in.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kernel_context.h"
#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "op_registration.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

// Inputs (table, ids).
class Missing {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(coefficient_, attributes.Int("coefficient"));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 1));
    std::vector<int64_t> missing;
    MXREC_RETURN_IF_ERROR(table->Missing(ids.keys(), &missing, coefficient_));
    MXREC_ASSIGN_OR_RETURN(const Tensor keys,
                           context.Output<int64_t>(0, {static_cast<int64_t>(missing.size())}));
    std::copy(missing.begin(), missing.end(), keys.data<int64_t>());
    return {};
  }

 private:
  int64_t coefficient_ = 0;
};

// Inputs (ids), which come out as they are. Runs in the input pipeline, where a table is known by
// name only.
class Prepare {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(table_, attributes.String("table"));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    const auto table = FindTable(table_);
    if (table == nullptr) {
      return NotFound("table '" + table_ +
                      "' does not exist in the process that runs this input pipeline: a table "
                      "lives from create_table to terminate; create it before the iterator runs");
    }
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 0));
    MXREC_RETURN_IF_ERROR(table->Prepare(ids.keys()));
    return context.Forward(0, 0);
  }

 private:
  std::string table_;
};

// Inputs (table, keys, values).
class Insert : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor keys, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(const Tensor values, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckRank("keys", keys, 1));
    MXREC_RETURN_IF_ERROR(CheckShape("values", values, {keys.shape()[0], table->dim()}));
    return table->InsertMissing(keys.span<const int64_t>(), values.data<float>());
  }
};

// Inputs (table, threshold).
class SetThreshold : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor threshold, context.Input(1));
    MXREC_RETURN_IF_ERROR(CheckRank("threshold", threshold, 0));
    return table->SetThreshold(*threshold.data<int64_t>());
  }
};

// Inputs (table, now: [] or [0], budget: [] or [0]); [0]: none.
class Evict : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor now, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(const Tensor budget, context.Input(2));
    const auto freed = table->Evict(Optional(now), Optional(budget));
    if (!freed.ok()) return freed.status();
    MXREC_ASSIGN_OR_RETURN(const Tensor output, context.Output<int64_t>(0, {}));
    *output.data<int64_t>() = freed.value();
    return {};
  }

 private:
  static std::optional<int64_t> Optional(const Tensor& value) {
    if (value.shape() == Shape{0}) return std::nullopt;
    return *value.data<int64_t>();
  }
};

template <int64_t (*kValue)(const Table&)>
class Scalar : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor output, context.Output<int64_t>(0, {}));
    *output.data<int64_t>() = kValue(*table);
    return {};
  }
};

int64_t Size(const Table& table) { return table.size(); }

int64_t Capacity(const Table& table) {
  return table.capacity() == kUnbounded ? -1 : table.capacity();
}

}  // namespace

void RegisterTableOps() {
  Register<Missing>({
      .name = "MxrecMissing",
      .inputs = {"table: resource", "ids: T"},
      .outputs = {"keys: int64"},
      .attributes = {"T: {int64, int32}", "coefficient: int = 0"},
      .shape = MissingShapes,
  });
  Register<Prepare>({
      .name = "MxrecPrepare",
      .inputs = {"ids: T"},
      .outputs = {"same_ids: T"},
      .attributes = {"T: {int64, int32}", "table: string"},
      .shape = SameShape,
  });
  Register<SetThreshold>({
      .name = "MxrecSetThreshold",
      .inputs = {"table: resource", "threshold: int64"},
      .outputs = {},
      .attributes = {},
      .shape = NoOutputs,
  });
  Register<Evict>({
      .name = "MxrecEvict",
      .inputs = {"table: resource", "now: int64", "budget: int64"},
      .outputs = {"freed: int64"},
      .attributes = {},
      .shape = ScalarShape,
  });
  Register<Insert>({
      .name = "MxrecInsert",
      .inputs = {"table: resource", "keys: int64", "values: float"},
      .outputs = {},
      .attributes = {},
      .shape = InsertShapes,
  });
  Register<Scalar<Size>>({
      .name = "MxrecSize",
      .inputs = {"table: resource"},
      .outputs = {"size: int64"},
      .attributes = {},
      .shape = ScalarShape,
  });
  Register<Scalar<Capacity>>({
      .name = "MxrecCapacity",
      .inputs = {"table: resource"},
      .outputs = {"capacity: int64"},
      .attributes = {},
      .shape = ScalarShape,
  });
}

}  // namespace mxrec::tf
