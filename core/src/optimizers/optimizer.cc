#include "optimizers/optimizer.h"

#include "optimizers/make.h"

namespace mxrec {

std::unique_ptr<Optimizer> MakeOptimizer(const OptimizerOptions& options, KernelChoice kernels) {
  switch (options.kind) {
    case OptimizerKind::kNone:
      return nullptr;
    case OptimizerKind::kSgd:
      return MakeSgd(options, kernels);
    case OptimizerKind::kMomentum:
      return MakeMomentum(options, kernels);
    case OptimizerKind::kAdagrad:
      return MakeAdagrad(options, kernels);
    case OptimizerKind::kFtrl:
      return MakeFtrl(options, kernels);
    case OptimizerKind::kLazyAdam:
      return MakeLazyAdam(options, kernels);
  }
  return nullptr;
}

std::unique_ptr<Optimizer> Optimizer::Make(const OptimizerOptions& options) {
  return MakeOptimizer(options, KernelChoice::kVector);
}

}  // namespace mxrec
