// Stochastic gradient descent with weight decay: w -= lr * (g + wd * w).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optimizers/sgd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "optimizers/make.h"
#include "optimizers/update_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {

struct SgdRule {
  static constexpr int kSlots = 0;
  float lr, weight_decay;

  template <class Ops, class V>
  HWY_INLINE void operator()(Ops ops, V g, V& w) const {
    const V decayed = ops.Add(g, ops.Mul(ops.Set(weight_decay), w));
    w = ops.Sub(w, ops.Mul(ops.Set(lr), decayed));
  }
};

void SgdVector(float lr, float weight_decay, const RowBatch& batch) {
  UpdateRows<VectorOps>(SgdRule{lr, weight_decay}, batch);
}
void SgdScalar(float lr, float weight_decay, const RowBatch& batch) {
  UpdateRows<ScalarOps>(SgdRule{lr, weight_decay}, batch);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(SgdVector);

class SgdOptimizer final : public Optimizer {
 public:
  SgdOptimizer(const OptimizerOptions& options, KernelChoice kernels)
      : options_(options), kernels_(kernels) {}

  void InitSlots(float* /*slots*/, int /*dim*/) const override {}

  void Update(float* const* rows, const float* grads, size_t n, int dim,
              const StepParams& step) const override {
    const RowBatch batch{rows, grads, n, static_cast<size_t>(dim)};
    const auto update = kernels_ == KernelChoice::kVector ? HWY_DYNAMIC_DISPATCH(SgdVector)
                                                          : HWY_STATIC_DISPATCH(SgdScalar);
    update(step.learning_rate, options_.weight_decay, batch);
  }

 private:
  OptimizerOptions options_;
  KernelChoice kernels_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeSgd(const OptimizerOptions& options, KernelChoice kernels) {
  return std::make_unique<SgdOptimizer>(options, kernels);
}

}  // namespace mxrec
#endif  // HWY_ONCE
