// Momentum as TensorFlow's SparseApplyMomentum: a = momentum * a + g, w -= lr * a; with Nesterov
// w -= lr * g + lr * momentum * a.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optimizers/momentum.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "optimizers/make.h"
#include "optimizers/update_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {

struct MomentumRule {
  static constexpr int kSlots = 1;
  float lr, momentum;
  bool nesterov;

  template <class Ops, class V>
  HWY_INLINE void operator()(Ops ops, V g, V& w, V& accum) const {
    accum = ops.Add(ops.Mul(accum, ops.Set(momentum)), g);
    V delta = ops.Mul(accum, ops.Set(lr));
    if (nesterov) {
      delta = ops.Add(ops.Mul(g, ops.Set(lr)), ops.Mul(delta, ops.Set(momentum)));
    }
    w = ops.Sub(w, delta);
  }
};

void MomentumVector(float lr, float momentum, bool nesterov, const RowBatch& batch) {
  UpdateRows<VectorOps>(MomentumRule{lr, momentum, nesterov}, batch);
}
void MomentumScalar(float lr, float momentum, bool nesterov, const RowBatch& batch) {
  UpdateRows<ScalarOps>(MomentumRule{lr, momentum, nesterov}, batch);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(MomentumVector);

class MomentumOptimizer final : public Optimizer {
 public:
  MomentumOptimizer(const OptimizerOptions& options, KernelChoice kernels)
      : options_(options), kernels_(kernels) {}

  void InitSlots(float* slots, int dim) const override { std::fill_n(slots, dim, 0.0f); }

  void Update(float* const* rows, const float* grads, size_t n, int dim,
              const StepParams& step) const override {
    const RowBatch batch{rows, grads, n, static_cast<size_t>(dim)};
    const auto update = kernels_ == KernelChoice::kVector ? HWY_DYNAMIC_DISPATCH(MomentumVector)
                                                          : HWY_STATIC_DISPATCH(MomentumScalar);
    update(step.learning_rate, options_.momentum, options_.nesterov, batch);
  }

 private:
  OptimizerOptions options_;
  KernelChoice kernels_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeMomentum(const OptimizerOptions& options, KernelChoice kernels) {
  return std::make_unique<MomentumOptimizer>(options, kernels);
}

}  // namespace mxrec
#endif  // HWY_ONCE
