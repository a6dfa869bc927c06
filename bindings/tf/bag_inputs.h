// The bags of a pooled op: its inputs (splits: int64 [bags + 1], weights: none or float [n]) and
// its attribute `combiner`.
#pragma once

#include <cstdint>
#include <optional>

#include "kernel_context.h"
#include "mxrec/table_types.h"

namespace mxrec::tf {

inline constexpr const char* kCombinerAttribute = "combiner: {'sum', 'mean', 'sqrtn'}";
// None, or one tensor.
inline constexpr const char* kWeightsInput = "weights: num_weights * float";
inline constexpr const char* kWeightsAttribute = "num_weights: int >= 0";
// Of grouped ops. What a member without weights has in their place is not read.
inline constexpr const char* kCombinersAttribute = "combiner: list({'sum', 'mean', 'sqrtn'})";
inline constexpr const char* kGroupedWeightsInput = "weights: N * float";
inline constexpr const char* kGroupedWeightsAttribute = "num_weights: list(int)";

Result<Combiner> ReadCombiner(const Attributes& attributes);

class BagInputs {
 public:
  // Input `index` holds the splits, the num_weights ones after it the weights. of: the shape of
  // what is pooled. kInvalidArgument unless it is one axis that the splits divide.
  static Result<BagInputs> FromContext(const KernelContext& context, int index, int64_t num_weights,
                                       const Shape& of, Combiner combiner);

  Bags bags() const {
    return {.offsets = splits_.span<const int64_t>(),
            .weights = weights_ ? weights_->data<const float>() : nullptr,
            .combiner = combiner_};
  }
  int64_t count() const { return splits_.shape()[0] - 1; }

 private:
  BagInputs(Tensor splits, std::optional<Tensor> weights, Combiner combiner);
  Tensor splits_;
  std::optional<Tensor> weights_;
  Combiner combiner_;
};

// Base of kernels with the attributes of pooling.
class PoolingKernel {
 public:
  Status Init(const Attributes& attributes);

 protected:
  Result<BagInputs> Inputs(const KernelContext& context, int index, const Shape& of) const {
    return BagInputs::FromContext(context, index, num_weights_, of, combiner_);
  }

 private:
  Combiner combiner_ = Combiner::kSum;
  int64_t num_weights_ = 0;
};

}  // namespace mxrec::tf
