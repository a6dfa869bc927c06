// Lookups: MxrecLookup, MxrecLookupUnique and MxrecPooledLookup train (they insert and count),
// MxrecRead and MxrecPooledRead do not.
// MxrecGrouped* are several of a kind in one op. `group` is for the graph optimizer
// (group_lookups.h): may it make the op part of a grouped one?
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bag_inputs.h"
#include "closed_tables.h"
#include "grouped_kernel.h"
#include "kernel_context.h"
#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "op_registration.h"
#include "reading.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

// Inputs (table, proxy, ids, like, absent, timestamps). `proxy` is what gradients are taken with
// respect to; its value is never read. timestamps: [m] as in TrainingUse.
class TrainingLookup {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(unique_size_, attributes.Int("unique_size"));
    MXREC_ASSIGN_OR_RETURN(coefficient_, attributes.Int("coefficient"));
    MXREC_ASSIGN_OR_RETURN(const int64_t makes_rows, attributes.Int("makes_rows"));
    makes_rows_ = makes_rows != 0;
    if (unique_size_ >= 0) return {};
    return InvalidArgument("unique_size is " + std::to_string(unique_size_) +
                           ", must be 0 (as many as there are) or more");
  }

 protected:
  struct Inputs {
    std::shared_ptr<Table> table;
    KeyBatch ids;
    Tensor absent;
    Tensor timestamps;
  };
  Result<Inputs> Take(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(KeyBatch ids, KeyBatch::FromInput(context, 2));
    MXREC_ASSIGN_OR_RETURN(const Tensor like, context.Input(3));
    MXREC_RETURN_IF_ERROR(CheckWidth(*table, like));
    MXREC_ASSIGN_OR_RETURN(Tensor absent, context.Input(4));
    MXREC_ASSIGN_OR_RETURN(Tensor timestamps, context.Input(5));
    MXREC_RETURN_IF_ERROR(CheckRank("timestamps", timestamps, 1));
    if (table->admits_none()) WarnOfClosedTable(table);
    return Inputs{std::move(table), std::move(ids), std::move(absent), std::move(timestamps)};
  }

  // Makes the rows of the batch and writes outputs 1 to 3. rows_of(unique, padded) says where the
  // unique rows go; it is asked before the table changes.
  template <class RowsOf>
  Result<Tensor> Resolve(const KernelContext& context, const Inputs& in, RowsOf rows_of) const {
    MXREC_ASSIGN_OR_RETURN(Tensor inverse, context.Output<int32_t>(3, in.ids.shape()));
    TrainingUse use{.timestamps = in.timestamps.template span<const int64_t>(),
                    .coefficient = coefficient_,
                    .makes_rows = makes_rows_};
    MXREC_ASSIGN_OR_RETURN(use.absent_row, AbsentRow(in.absent, in.table->dim()));
    std::optional<Tensor> keys, addresses;
    size_t unique = 0;
    const auto allocate = [&](size_t n) -> Result<UniqueOutput> {
      MXREC_RETURN_IF_ERROR(CheckUniqueSize(*in.table, n));
      unique = n;
      const int64_t padded = std::max(unique_size_, static_cast<int64_t>(n));
      MXREC_ASSIGN_OR_RETURN(Tensor key_output, context.Output<int64_t>(1, {padded}));
      MXREC_ASSIGN_OR_RETURN(Tensor address_output, context.Output<int64_t>(2, {padded}));
      MXREC_ASSIGN_OR_RETURN(float* rows, rows_of(n, padded));
      keys.emplace(std::move(key_output));
      addresses.emplace(std::move(address_output));
      return UniqueOutput{.keys = keys->template data<int64_t>(),
                          .addresses = addresses->template data<int64_t>(),
                          .rows = rows};
    };
    MXREC_RETURN_IF_ERROR(in.table->Resolve(in.ids.keys(), ResolveMode::kInsert,
                                            inverse.data<int32_t>(), UniqueAllocator(allocate),
                                            use));
    if (keys->size() > unique) {
      const std::span<int64_t> all = keys->template span<int64_t>();
      MXREC_ASSIGN_OR_RETURN(const int64_t padding, PaddingKey(*in.table, all.first(unique)));
      std::fill(all.begin() + static_cast<int64_t>(unique), all.end(), padding);
      const std::span<int64_t> places = addresses->template span<int64_t>();
      std::fill(places.begin() + static_cast<int64_t>(unique), places.end(), kNoAddress);
    }
    return inverse;
  }

 private:
  // A key whose row no zero gradient can change: one of the batch, whose sum it joins, or, in an
  // empty batch, one without a row.
  static Result<int64_t> PaddingKey(const Table& table, std::span<const int64_t> unique) {
    if (!unique.empty()) return unique.front();
    for (int64_t key = std::numeric_limits<int64_t>::min();; ++key) {
      bool there = false;
      MXREC_RETURN_IF_ERROR(table.Contains({&key, 1}, &there));
      if (!there) return key;
    }
  }

  Status CheckUniqueSize(const Table& table, size_t unique) const {
    if (unique_size_ == 0 || unique <= static_cast<size_t>(unique_size_)) return {};
    return InvalidArgument("the batch for table '" + table.name() + "' has " +
                           std::to_string(unique) + " distinct keys, but there is room for " +
                           std::to_string(unique_size_) +
                           " (send_count x ranks): raise send_count or use smaller batches");
  }

  int64_t unique_size_ = 0;
  int64_t coefficient_ = 0;
  bool makes_rows_ = true;
};

class Lookup : public TrainingLookup {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Inputs in, Take(context));
    const int dim = in.table->dim();
    MXREC_ASSIGN_OR_RETURN(const Tensor values,
                           context.Output<float>(0, Append(in.ids.shape(), dim)));
    std::unique_ptr<float[]> rows;
    MXREC_ASSIGN_OR_RETURN(
        const Tensor inverse, Resolve(context, in, [&](size_t unique, int64_t) -> Result<float*> {
          // Without repetitions the unique keys are the batch.
          if (unique == in.ids.size()) return values.data<float>();
          rows = std::make_unique_for_overwrite<float[]>(unique * static_cast<size_t>(dim));
          return rows.get();
        }));
    if (rows == nullptr) return {};
    kernels::GatherRows(rows.get(), inverse.data<int32_t>(), in.ids.size(), dim,
                        values.data<float>());
    return {};
  }
};

class LookupUnique : public TrainingLookup {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Inputs in, Take(context));
    const int64_t dim = in.table->dim();
    const auto rows_of = [&](size_t unique, int64_t padded) -> Result<float*> {
      MXREC_ASSIGN_OR_RETURN(const Tensor rows, context.Output<float>(0, {padded, dim}));
      const std::span<float> all = rows.span<float>();
      std::fill(all.begin() + static_cast<int64_t>(unique) * dim, all.end(), 0.0f);
      return all.data();
    };
    const auto inverse = Resolve(context, in, rows_of);
    return inverse.ok() ? Status() : inverse.status();
  }
};

// Inputs (table, proxy, ids, like, absent, timestamps, splits).
class PooledLookup : public TrainingLookup {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_RETURN_IF_ERROR(TrainingLookup::Init(attributes));
    MXREC_ASSIGN_OR_RETURN(combiner_, ReadCombiner(attributes));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Inputs in, Take(context));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs,
                           BagInputs::FromContext(context, 6, 0, in.ids.shape(), combiner_));
    const int dim = in.table->dim();
    MXREC_ASSIGN_OR_RETURN(const Tensor pooled, context.Output<float>(0, {inputs.count(), dim}));
    std::unique_ptr<float[]> rows;
    MXREC_ASSIGN_OR_RETURN(
        const Tensor inverse, Resolve(context, in, [&](size_t unique, int64_t) -> Result<float*> {
          rows = std::make_unique_for_overwrite<float[]>(unique * static_cast<size_t>(dim));
          return rows.get();
        }));
    kernels::PoolRows(rows.get(), inverse.data<int32_t>(), inputs.bags(), dim,
                      pooled.data<float>());
    return {};
  }

 private:
  Combiner combiner_ = Combiner::kSum;
};

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
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float", "absent: float",
                 "timestamps: int64"},
      .outputs = {"values: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "coefficient: int = 0", "makes_rows: int = 1",
                     "T: {int64, int32}", "group: bool = true"},
      .shape = LookupShapes,
  });
  Register<LookupUnique>({
      .name = "MxrecLookupUnique",
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float", "absent: float",
                 "timestamps: int64"},
      .outputs = {"rows: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "coefficient: int = 0", "makes_rows: int = 1",
                     "T: {int64, int32}", "group: bool = true"},
      .shape = LookupUniqueShapes,
  });
  Register<PooledLookup>({
      .name = "MxrecPooledLookup",
      .inputs = {"table: resource", "proxy: resource", "ids: T", "like: float", "absent: float",
                 "timestamps: int64", "splits: int64"},
      .outputs = {"pooled: float", "unique_keys: int64", "addresses: int64", "inverse: int32"},
      .attributes = {"unique_size: int = 0", "coefficient: int = 0", "makes_rows: int = 1",
                     "T: {int64, int32}", kCombinerAttribute, "group: bool = true"},
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
      .attributes = {"T: {int64, int32}", kCombinerAttribute, kWeightsAttribute,
                     "group: bool = true"},
      .shape = PooledReadShapes,
  });
  Register<Grouped<Lookup>>({
      .name = "MxrecGroupedLookup",
      .inputs = {"tables: N * resource", "proxies: N * resource", "ids: T", "likes: N * float",
                 "absents: N * float", "timestamps: N * int64"},
      .outputs = {"values: N * float", "unique_keys: N * int64", "addresses: N * int64",
                  "inverse: N * int32"},
      .attributes = {"N: int >= 1", "unique_size: list(int)", "coefficient: list(int)",
                     "makes_rows: list(int)", "T: list({int64, int32})"},
      .shape = GroupedLookupShapes,
  });
  Register<Grouped<LookupUnique>>({
      .name = "MxrecGroupedLookupUnique",
      .inputs = {"tables: N * resource", "proxies: N * resource", "ids: T", "likes: N * float",
                 "absents: N * float", "timestamps: N * int64"},
      .outputs = {"rows: N * float", "unique_keys: N * int64", "addresses: N * int64",
                  "inverse: N * int32"},
      .attributes = {"N: int >= 1", "unique_size: list(int)", "coefficient: list(int)",
                     "makes_rows: list(int)", "T: list({int64, int32})"},
      .shape = GroupedLookupUniqueShapes,
  });
  Register<Grouped<PooledLookup>>({
      .name = "MxrecGroupedPooledLookup",
      .inputs = {"tables: N * resource", "proxies: N * resource", "ids: T", "likes: N * float",
                 "absents: N * float", "timestamps: N * int64", "splits: N * int64"},
      .outputs = {"pooled: N * float", "unique_keys: N * int64", "addresses: N * int64",
                  "inverse: N * int32"},
      .attributes = {"N: int >= 1", "unique_size: list(int)", "coefficient: list(int)",
                     "makes_rows: list(int)", "T: list({int64, int32})", kCombinersAttribute},
      .shape = GroupedPooledLookupShapes,
  });
  Register<Grouped<Read>>({
      .name = "MxrecGroupedRead",
      .inputs = {"tables: N * resource", "ids: T", "likes: N * float", "absents: N * float"},
      .outputs = {"values: N * float"},
      .attributes = {"N: int >= 1", "T: list({int64, int32})"},
      .shape = GroupedReadShapes,
  });
  Register<Grouped<PooledRead>>({
      .name = "MxrecGroupedPooledRead",
      .inputs = {"tables: N * resource", "ids: T", "likes: N * float", "absents: N * float",
                 "splits: N * int64", kGroupedWeightsInput},
      .outputs = {"pooled: N * float"},
      .attributes = {"N: int >= 1", "T: list({int64, int32})", kCombinersAttribute,
                     kGroupedWeightsAttribute},
      .shape = GroupedPooledReadShapes,
  });
}

}  // namespace mxrec::tf
