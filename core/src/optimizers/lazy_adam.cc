// LazyAdam: Adam whose moments decay only on the rows of the step, with the bias correction of the
// global step t:
//   m = b1 * m + (1 - b1) * g,  v = b2 * v + (1 - b2) * g^2
//   w -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optimizers/lazy_adam.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "optimizers/make.h"
#include "optimizers/update_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {

struct LazyAdamRule {
  static constexpr int kSlots = 2;
  float corrected_lr, beta1, beta2, epsilon;

  template <class Ops, class V>
  HWY_INLINE void operator()(Ops ops, V g, V& w, V& m, V& v) const {
    m = ops.Add(ops.Mul(ops.Set(beta1), m), ops.Mul(ops.Set(1.0f - beta1), g));
    v = ops.Add(ops.Mul(ops.Set(beta2), v), ops.Mul(ops.Set(1.0f - beta2), ops.Mul(g, g)));
    const V denominator = ops.Add(ops.Sqrt(v), ops.Set(epsilon));
    w = ops.Sub(w, ops.Div(ops.Mul(ops.Set(corrected_lr), m), denominator));
  }
};

void LazyAdamVector(float corrected_lr, float beta1, float beta2, float epsilon,
                    const RowBatch& batch) {
  UpdateRows<VectorOps>(LazyAdamRule{corrected_lr, beta1, beta2, epsilon}, batch);
}
void LazyAdamScalar(float corrected_lr, float beta1, float beta2, float epsilon,
                    const RowBatch& batch) {
  UpdateRows<ScalarOps>(LazyAdamRule{corrected_lr, beta1, beta2, epsilon}, batch);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(LazyAdamVector);

// base^exponent by squaring: the C library's pow may differ between machines in the last bit.
double Power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

class LazyAdamOptimizer final : public Optimizer {
 public:
  LazyAdamOptimizer(const OptimizerOptions& options, KernelChoice kernels)
      : options_(options), kernels_(kernels) {}

  void InitSlots(float* slots, int dim) const override {
    std::fill_n(slots, 2 * static_cast<size_t>(dim), 0.0f);
  }

  void Update(float* const* rows, const float* grads, size_t n, int dim,
              const StepParams& step) const override {
    const RowBatch batch{rows, grads, n, static_cast<size_t>(dim)};
    const double correction = std::sqrt(1.0 - Power(options_.beta2, step.step)) /
                              (1.0 - Power(options_.beta1, step.step));
    const float corrected_lr = static_cast<float>(step.learning_rate * correction);
    const auto update = kernels_ == KernelChoice::kVector ? HWY_DYNAMIC_DISPATCH(LazyAdamVector)
                                                          : HWY_STATIC_DISPATCH(LazyAdamScalar);
    update(corrected_lr, options_.beta1, options_.beta2, options_.epsilon, batch);
  }

 private:
  OptimizerOptions options_;
  KernelChoice kernels_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeLazyAdam(const OptimizerOptions& options, KernelChoice kernels) {
  return std::make_unique<LazyAdamOptimizer>(options, kernels);
}

}  // namespace mxrec
#endif  // HWY_ONCE
