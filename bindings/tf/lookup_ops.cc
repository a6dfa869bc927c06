// Lookups: MxrecLookup, MxrecLookupUnique and MxrecPooledLookup train (they insert and count),
// MxrecRead and MxrecPooledRead do not.
// MxrecGrouped* are several of a kind in one op. `group` is for the graph optimizer
// (group_lookups.h): may it make the op part of a grouped one?
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bag_inputs.h"
#include "grouped_kernel.h"
#include "kernel_context.h"
#include "mxrec/kernels.h"
#include "mxrec/table.h"
#include "op_registration.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

Status CheckWidth(const Table& table, const Tensor& like) {
  MXREC_RETURN_IF_ERROR(CheckRank("like", like, 2));
  if (like.shape()[1] == table.dim()) return {};
  return InvalidArgument("table '" + table.name() + "' has dim " + std::to_string(table.dim()) +
                         ", this op was built for dim " + std::to_string(like.shape()[1]) +
                         ": build the graph after create_table");
}

// The distinct keys of one batch, with their rows made.
struct ResolvedBatch {
  std::shared_ptr<Table> table;
  size_t size;  // keys in the batch
  Shape ids_shape;
  UniqueKeys unique;
  int64_t rows;    // length of the unique outputs: the distinct keys and their padding
  Tensor inverse;  // output 3
};

Status ReadUniqueRows(const ResolvedBatch& batch, float* out) {
  return batch.table->ReadRows(batch.unique.addresses, batch.unique.keys, nullptr, out);
}

// Copies `values` into output `index`, padded to `length` with `padding`.
Status OutputPadded(const KernelContext& context, int index, const std::vector<int64_t>& values,
                    int64_t length, int64_t padding) {
  MXREC_ASSIGN_OR_RETURN(const Tensor output, context.Output<int64_t>(index, {length}));
  auto* rest = std::copy(values.begin(), values.end(), output.data<int64_t>());
  std::fill(rest, output.data<int64_t>() + length, padding);
  return {};
}

// Inputs (table, proxy, ids, like). `proxy` is what gradients are taken with respect to; its value
// is never read.
class TrainingLookup {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(unique_size_, attributes.Int("unique_size"));
    if (unique_size_ >= 0) return {};
    return InvalidArgument("unique_size is " + std::to_string(unique_size_) +
                           ", must be 0 (as many as there are) or more");
  }

 protected:
  // Resolves the batch and writes outputs 1 to 3.
  Result<ResolvedBatch> Resolve(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 2));
    MXREC_ASSIGN_OR_RETURN(const Tensor like, context.Input(3));
    MXREC_RETURN_IF_ERROR(CheckWidth(*table, like));
    MXREC_RETURN_IF_ERROR(CheckUniqueSize(table.get(), ids.keys()));

    MXREC_ASSIGN_OR_RETURN(Tensor inverse, context.Output<int32_t>(3, ids.shape()));
    UniqueKeys unique;
    MXREC_RETURN_IF_ERROR(
        table->Resolve(ids.keys(), ResolveMode::kInsert, inverse.data<int32_t>(), &unique));
    const int64_t rows = std::max(unique_size_, static_cast<int64_t>(unique.size()));
    MXREC_ASSIGN_OR_RETURN(const int64_t padding, PaddingKey(*table, unique));
    MXREC_RETURN_IF_ERROR(OutputPadded(context, 1, unique.keys, rows, padding));
    MXREC_RETURN_IF_ERROR(OutputPadded(context, 2, unique.addresses, rows, kNoAddress));
    return ResolvedBatch{std::move(table),  ids.size(), ids.shape(),
                         std::move(unique), rows,       std::move(inverse)};
  }

 private:
  // A key whose row no zero gradient can change: one of the batch, whose sum it joins, or, in an
  // empty batch, one without a row.
  Result<int64_t> PaddingKey(const Table& table, const UniqueKeys& unique) const {
    if (unique_size_ == 0 || !unique.keys.empty()) {
      return unique.keys.empty() ? 0 : unique.keys.front();
    }
    for (int64_t key = std::numeric_limits<int64_t>::min();; ++key) {
      bool there = false;
      MXREC_RETURN_IF_ERROR(table.Contains({&key, 1}, &there));
      if (!there) return key;
    }
  }

  // A batch with too many distinct keys is refused before it inserts any.
  Status CheckUniqueSize(Table* table, KeySpan keys) const {
    if (unique_size_ == 0 || keys.size() <= static_cast<size_t>(unique_size_)) return {};
    UniqueKeys unique;
    MXREC_RETURN_IF_ERROR(table->Resolve(keys, ResolveMode::kFind, nullptr, &unique));
    if (unique.size() <= static_cast<size_t>(unique_size_)) return {};
    return InvalidArgument("the batch for table '" + table->name() + "' has " +
                           std::to_string(unique.size()) +
                           " distinct keys, but there is room for " + std::to_string(unique_size_) +
                           " (send_count x ranks): raise send_count or use smaller batches");
  }

  int64_t unique_size_ = 0;
};

class Lookup : public TrainingLookup {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const ResolvedBatch batch, Resolve(context));
    const int dim = batch.table->dim();
    MXREC_ASSIGN_OR_RETURN(const Tensor values,
                           context.Output<float>(0, Append(batch.ids_shape, dim)));
    // Without repetitions the unique keys are the batch.
    const size_t unique = batch.unique.size();
    if (unique == batch.size) return ReadUniqueRows(batch, values.data<float>());
    const auto rows = std::make_unique_for_overwrite<float[]>(unique * static_cast<size_t>(dim));
    MXREC_RETURN_IF_ERROR(ReadUniqueRows(batch, rows.get()));
    kernels::GatherRows(rows.get(), batch.inverse.data<int32_t>(), batch.size, dim,
                        values.data<float>());
    return {};
  }
};

class LookupUnique : public TrainingLookup {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const ResolvedBatch batch, Resolve(context));
    const int64_t dim = batch.table->dim();
    MXREC_ASSIGN_OR_RETURN(const Tensor rows, context.Output<float>(0, {batch.rows, dim}));
    MXREC_RETURN_IF_ERROR(ReadUniqueRows(batch, rows.data<float>()));
    const auto all = rows.span<float>();
    std::fill(all.begin() + static_cast<int64_t>(batch.unique.size()) * dim, all.end(), 0.0f);
    return {};
  }
};

// Inputs (table, proxy, ids, like, splits).
class PooledLookup : public TrainingLookup {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_RETURN_IF_ERROR(TrainingLookup::Init(attributes));
    MXREC_ASSIGN_OR_RETURN(combiner_, ReadCombiner(attributes));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor ids, context.Input(2));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs,
                           BagInputs::FromContext(context, 4, 0, ids.shape(), combiner_));
    MXREC_ASSIGN_OR_RETURN(const ResolvedBatch batch, Resolve(context));
    MXREC_ASSIGN_OR_RETURN(const Tensor pooled,
                           context.Output<float>(0, {inputs.count(), batch.table->dim()}));
    return batch.table->ReadRowsPooled(batch.unique, batch.inverse.data<int32_t>(), inputs.bags(),
                                       pooled.data<float>());
  }

 private:
  Combiner combiner_ = Combiner::kSum;
};

Result<const float*> AbsentRow(const Tensor& absent, int dim) {
  if (absent.shape() == Shape{0}) return nullptr;
  MXREC_RETURN_IF_ERROR(CheckShape("absent", absent, {dim}));
  return absent.data<float>();
}

// Inputs (table, ids, like, absent).
class Read : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 1));
    MXREC_ASSIGN_OR_RETURN(const Tensor like, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckWidth(*table, like));
    MXREC_ASSIGN_OR_RETURN(const Tensor absent, context.Input(3));
    MXREC_ASSIGN_OR_RETURN(const float* absent_row, AbsentRow(absent, table->dim()));
    MXREC_ASSIGN_OR_RETURN(const Tensor values,
                           context.Output<float>(0, Append(ids.shape(), table->dim())));
    return table->Lookup(ids.keys(), absent_row, values.data<float>());
  }
};

// Inputs (table, ids, like, absent, splits, weights).
class PooledRead : public PoolingKernel {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 1));
    MXREC_ASSIGN_OR_RETURN(const Tensor like, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckWidth(*table, like));
    MXREC_ASSIGN_OR_RETURN(const Tensor absent, context.Input(3));
    MXREC_ASSIGN_OR_RETURN(const float* absent_row, AbsentRow(absent, table->dim()));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs, Inputs(context, 4, ids.shape()));
    MXREC_ASSIGN_OR_RETURN(const Tensor pooled,
                           context.Output<float>(0, {inputs.count(), table->dim()}));
    return table->LookupPooled(ids.keys(), inputs.bags(), absent_row, pooled.data<float>());
  }
};

}  // namespace

void RegisterLookupOps() {
  Register<Lookup>({
      .name = "MxrecLookup",
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float"},
      .outputs = {"values: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "T: {int64, int32}", "group: bool = true"},
      .shape = LookupShapes,
  });
  Register<LookupUnique>({
      .name = "MxrecLookupUnique",
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float"},
      .outputs = {"rows: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "T: {int64, int32}", "group: bool = true"},
      .shape = LookupUniqueShapes,
  });
  Register<PooledLookup>({
      .name = "MxrecPooledLookup",
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float", "splits: int64"},
      .outputs = {"pooled: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "T: {int64, int32}", kCombinerAttribute},
      .shape = PooledLookupShapes,
  });
  Register<Read>({
      .name = "MxrecRead",
      .inputs = {"table: resource", "ids: T", "like: float", "absent: float"},
      .outputs = {"values: float"},
      .attributes = {"T: {int64, int32}", "group: bool = true"},
      .shape = ReadShapes,
  });
  Register<PooledRead>({
      .name = "MxrecPooledRead",
      .inputs = {"table: resource", "ids: T", "like: float", "absent: float", "splits: int64",
                 kWeightsInput},
      .outputs = {"pooled: float"},
      .attributes = {"T: {int64, int32}", kCombinerAttribute, kWeightsAttribute},
      .shape = PooledReadShapes,
  });
  Register<Grouped<Lookup>>({
      .name = "MxrecGroupedLookup",
      .inputs = {"tables: N * resource", "proxies: N * resource", "ids: T", "likes: N * float"},
      .outputs = {"values: N * float", "unique_keys: N * int64", "addresses: N * int64",
                  "inverse: N * int32"},
      .attributes = {"N: int >= 1", "unique_size: list(int)", "T: list({int64, int32})"},
      .shape = GroupedLookupShapes,
  });
  Register<Grouped<LookupUnique>>({
      .name = "MxrecGroupedLookupUnique",
      .inputs = {"tables: N * resource", "proxies: N * resource", "ids: T", "likes: N * float"},
      .outputs = {"rows: N * float", "unique_keys: N * int64", "addresses: N * int64",
                  "inverse: N * int32"},
      .attributes = {"N: int >= 1", "unique_size: list(int)", "T: list({int64, int32})"},
      .shape = GroupedLookupUniqueShapes,
  });
  Register<Grouped<Read>>({
      .name = "MxrecGroupedRead",
      .inputs = {"tables: N * resource", "ids: T", "likes: N * float", "absents: N * float"},
      .outputs = {"values: N * float"},
      .attributes = {"N: int >= 1", "T: list({int64, int32})"},
      .shape = GroupedReadShapes,
  });
}

}  // namespace mxrec::tf
