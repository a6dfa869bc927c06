#include "bag_inputs.h"

#include <string>
#include <utility>

namespace mxrec::tf {

Result<Combiner> ReadCombiner(const Attributes& attributes) {
  MXREC_ASSIGN_OR_RETURN(const std::string name, attributes.String("combiner"));
  const std::optional<Combiner> combiner = CombinerFromName(name);
  if (combiner) return *combiner;
  return InvalidArgument("combiner is '" + name + "', must be 'sum', 'mean' or 'sqrtn'");
}

BagInputs::BagInputs(Tensor splits, std::optional<Tensor> weights, Combiner combiner)
    : splits_(std::move(splits)), weights_(std::move(weights)), combiner_(combiner) {}

Result<BagInputs> BagInputs::FromContext(const KernelContext& context, int index,
                                         int64_t num_weights, const Shape& of, Combiner combiner) {
  if (of.size() != 1) {
    return InvalidArgument("ids in bags have shape " + ToString(of) + ", wanted rank 1");
  }
  MXREC_ASSIGN_OR_RETURN(Tensor splits, context.Input(index));
  MXREC_RETURN_IF_ERROR(CheckRank("splits", splits, 1));
  std::optional<Tensor> weights;
  if (num_weights > 0) {
    MXREC_ASSIGN_OR_RETURN(Tensor given, context.Input(index + 1));
    if (given.shape() != of) {
      return InvalidArgument("weights have shape " + ToString(given.shape()) + ", the ids " +
                             ToString(of) + "; give one weight for each id");
    }
    weights.emplace(std::move(given));
  }
  BagInputs inputs(std::move(splits), std::move(weights), combiner);
  MXREC_RETURN_IF_ERROR(Validate(inputs.bags(), static_cast<size_t>(of[0])));
  return inputs;
}

Status PoolingKernel::Init(const Attributes& attributes) {
  MXREC_ASSIGN_OR_RETURN(combiner_, ReadCombiner(attributes));
  MXREC_ASSIGN_OR_RETURN(num_weights_, attributes.Int("num_weights"));
  if (num_weights_ <= 1) return {};
  return InvalidArgument("weights has " + std::to_string(num_weights_) +
                         " tensors, must have none or one");
}

}  // namespace mxrec::tf
