// Pooled ops that need no table. MxrecPooledRestore pools unique rows; MxrecPooledSegmentSum and
// MxrecPooledWeightGradients are its gradients. MxrecGrouped* are several of a kind in one op.
// MxrecBagSplits finds the bags of a sparse tensor.
#include <algorithm>
#include <limits>
#include <string>

#include "bag_inputs.h"
#include "grouped_kernel.h"
#include "kernel_context.h"
#include "mxrec/runtime.h"
#include "op_registration.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

// Inputs (rows, inverse, splits, weights).
class PooledRestore : public PoolingKernel {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor rows, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor inverse, context.Input(1));
    MXREC_RETURN_IF_ERROR(CheckRank("rows", rows, 2));
    MXREC_RETURN_IF_ERROR(CheckInverse(inverse, rows.shape()[0]));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs, Inputs(context, 2, inverse.shape()));
    const int64_t dim = rows.shape()[1];
    MXREC_ASSIGN_OR_RETURN(const Tensor pooled, context.Output<float>(0, {inputs.count(), dim}));
    kernels::PoolRows(rows.data<float>(), inverse.data<int32_t>(), inputs.bags(),
                      static_cast<int>(dim), pooled.data<float>());
    return {};
  }
};

// Inputs (grads, inverse, unique, splits, weights).
class PooledSegmentSum : public PoolingKernel {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor grads, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor inverse, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(const Tensor unique, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckRank("unique", unique, 1));
    MXREC_RETURN_IF_ERROR(CheckRank("grads", grads, 2));
    const int64_t rows = unique.shape()[0];
    const int64_t dim = grads.shape()[1];
    MXREC_RETURN_IF_ERROR(CheckInverse(inverse, rows));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs, Inputs(context, 3, inverse.shape()));
    MXREC_RETURN_IF_ERROR(CheckShape("grads", grads, {inputs.count(), dim}));
    MXREC_ASSIGN_OR_RETURN(const Tensor sums, context.Output<float>(0, {rows, dim}));
    kernels::PooledSegmentSum(grads.data<float>(), inverse.data<int32_t>(), inputs.bags(),
                              static_cast<size_t>(rows), static_cast<int>(dim), sums.data<float>());
    return {};
  }
};

// Inputs (grads, rows, inverse, splits, weights).
class PooledWeightGradients : public PoolingKernel {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor grads, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor rows, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(const Tensor inverse, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckRank("rows", rows, 2));
    MXREC_RETURN_IF_ERROR(CheckInverse(inverse, rows.shape()[0]));
    MXREC_ASSIGN_OR_RETURN(const BagInputs inputs, Inputs(context, 3, inverse.shape()));
    const int64_t dim = rows.shape()[1];
    MXREC_RETURN_IF_ERROR(CheckShape("grads", grads, {inputs.count(), dim}));
    MXREC_ASSIGN_OR_RETURN(const Tensor gradients, context.Output<float>(0, inverse.shape()));
    kernels::PooledWeightGradients(rows.data<float>(), inverse.data<int32_t>(), inputs.bags(),
                                   grads.data<float>(), static_cast<int>(dim),
                                   gradients.data<float>());
    return {};
  }
};

// Inputs (indices [n, rank], dense_shape [rank], weights_indices: none or [n, rank]).
class BagSplits {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(num_weights_, attributes.Int("num_weights"));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor indices, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor dense_shape, context.Input(1));
    MXREC_RETURN_IF_ERROR(CheckRank("ids.indices", indices, 2));
    MXREC_RETURN_IF_ERROR(CheckShape("ids.dense_shape", dense_shape, {indices.shape()[1]}));
    for (int64_t w = 0; w < num_weights_; ++w) {
      MXREC_ASSIGN_OR_RETURN(const Tensor weights, context.Input(2 + static_cast<int>(w)));
      MXREC_RETURN_IF_ERROR(CheckSame(indices, weights));
    }
    const auto sizes = dense_shape.span<const int64_t>();
    MXREC_ASSIGN_OR_RETURN(const int64_t bags, CountBags(sizes));
    MXREC_ASSIGN_OR_RETURN(const Tensor splits, context.Output<int64_t>(0, {bags + 1}));
    return Split(indices, sizes, splits.span<int64_t>());
  }

 private:
  static Status CheckSame(const Tensor& ids, const Tensor& weights) {
    if (weights.shape() != ids.shape()) {
      return InvalidArgument("weights.indices has shape " + ToString(weights.shape()) +
                             ", ids.indices " + ToString(ids.shape()) +
                             "; give one weight for each id");
    }
    const auto a = ids.span<const int64_t>(), b = weights.span<const int64_t>();
    const auto at = std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin();
    if (static_cast<size_t>(at) == a.size()) return {};
    return InvalidArgument("weights.indices differs from ids.indices at entry " +
                           std::to_string(at / ids.shape()[1]) +
                           "; give the weights in the order of the ids, at the same indices");
  }
  static Result<int64_t> CountBags(std::span<const int64_t> sizes) {
    if (sizes.size() < 2) {
      return InvalidArgument("ids.dense_shape has " + std::to_string(sizes.size()) +
                             " elements; a SparseTensor that is pooled has rank 2 or more");
    }
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    int64_t bags = 1;
    for (size_t axis = 0; axis + 1 < sizes.size(); ++axis) {
      const bool fits = sizes[axis] >= 0 && (sizes[axis] == 0 || bags <= kMost / sizes[axis]);
      if (!fits) {
        return InvalidArgument("ids.dense_shape[" + std::to_string(axis) + "] is " +
                               std::to_string(sizes[axis]) + ": the bags are the product of all " +
                               "sizes but the last, which must be in [0, " + std::to_string(kMost) +
                               "]");
      }
      bags *= sizes[axis];
    }
    return bags;
  }
  static Status Split(const Tensor& indices, std::span<const int64_t> sizes,
                      std::span<int64_t> splits) {
    const auto all = indices.span<const int64_t>();
    const auto n = static_cast<size_t>(indices.shape()[0]);
    size_t bag = 0;
    splits[0] = 0;
    for (size_t i = 0; i < n; ++i) {
      size_t here = 0;
      for (size_t axis = 0; axis + 1 < sizes.size(); ++axis) {
        const int64_t index = all[i * sizes.size() + axis];
        if (index < 0 || index >= sizes[axis]) {
          return InvalidArgument("ids.indices[" + std::to_string(i) + ", " + std::to_string(axis) +
                                 "] is " + std::to_string(index) + ", must be in [0, " +
                                 std::to_string(sizes[axis]) + "), as ids.dense_shape says");
        }
        here = here * static_cast<size_t>(sizes[axis]) + static_cast<size_t>(index);
      }
      if (here < bag) {
        return InvalidArgument("ids.indices[" + std::to_string(i) + "] comes before ids.indices[" +
                               std::to_string(i - 1) +
                               "]: ids must be in row-major order; use tf.sparse.reorder(ids)");
      }
      while (bag < here) splits[++bag] = static_cast<int64_t>(i);
    }
    std::fill(splits.begin() + static_cast<int64_t>(bag) + 1, splits.end(),
              static_cast<int64_t>(n));
    return {};
  }

  int64_t num_weights_ = 0;
};

}  // namespace

void RegisterPoolingOps() {
  Register<PooledRestore>({
      .name = "MxrecPooledRestore",
      .inputs = {"rows: float", "inverse: int32", "splits: int64", kWeightsInput},
      .outputs = {"pooled: float"},
      .attributes = {kCombinerAttribute, kWeightsAttribute, "group: bool = true"},
      .shape = PooledRestoreShapes,
      .stateful = false,
  });
  Register<PooledSegmentSum>({
      .name = "MxrecPooledSegmentSum",
      .inputs = {"grads: float", "inverse: int32", "unique: int64", "splits: int64", kWeightsInput},
      .outputs = {"sums: float"},
      .attributes = {kCombinerAttribute, kWeightsAttribute, "group: bool = true"},
      .shape = PooledSegmentSumShapes,
      .stateful = false,
  });
  Register<PooledWeightGradients>({
      .name = "MxrecPooledWeightGradients",
      .inputs = {"grads: float", "rows: float", "inverse: int32", "splits: int64", kWeightsInput},
      .outputs = {"gradients: float"},
      .attributes = {kCombinerAttribute, kWeightsAttribute, "group: bool = true"},
      .shape = PooledWeightGradientsShapes,
      .stateful = false,
  });
  Register<BagSplits>({
      .name = "MxrecBagSplits",
      .inputs = {"indices: int64", "dense_shape: int64", "weights_indices: num_weights * int64"},
      .outputs = {"splits: int64"},
      .attributes = {kWeightsAttribute},
      .shape = BagSplitsShapes,
      .stateful = false,
  });
  Register<GroupedRows<PooledRestore>>({
      .name = "MxrecGroupedPooledRestore",
      .inputs = {"rows: N * float", "inverse: N * int32", "splits: N * int64",
                 kGroupedWeightsInput},
      .outputs = {"pooled: N * float"},
      .attributes = {"N: int >= 1", "names: list(string)", kCombinersAttribute,
                     kGroupedWeightsAttribute},
      .shape = GroupedPooledRestoreShapes,
      .stateful = false,
  });
  Register<GroupedRows<PooledSegmentSum>>({
      .name = "MxrecGroupedPooledSegmentSum",
      .inputs = {"grads: N * float", "inverse: N * int32", "unique: N * int64", "splits: N * int64",
                 kGroupedWeightsInput},
      .outputs = {"sums: N * float"},
      .attributes = {"N: int >= 1", "names: list(string)", kCombinersAttribute,
                     kGroupedWeightsAttribute},
      .shape = GroupedPooledSegmentSumShapes,
      .stateful = false,
  });
  Register<GroupedRows<PooledWeightGradients>>({
      .name = "MxrecGroupedPooledWeightGradients",
      .inputs = {"grads: N * float", "rows: N * float", "inverse: N * int32", "splits: N * int64",
                 kGroupedWeightsInput},
      .outputs = {"gradients: N * float"},
      .attributes = {"N: int >= 1", "names: list(string)", kCombinersAttribute,
                     kGroupedWeightsAttribute},
      .shape = GroupedPooledWeightGradientsShapes,
      .stateful = false,
  });
}

}  // namespace mxrec::tf
