// FTRL-proximal as TensorFlow's SparseApplyFtrlV2:
//   a' = a + g^2
//   linear += g + 2 * shrinkage * w - (a'^p - a^p) / lr * w      with p = -learning_rate_power
//   w = |linear| > l1 ? (sign(linear) * l1 - linear) / (a'^p / lr + 2 * l2) : 0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optimizers/ftrl.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "optimizers/ftrl_coefficients.h"
#include "optimizers/make.h"
#include "optimizers/update_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {

struct FtrlRule {
  static constexpr int kSlots = 2;
  FtrlCoefficients k;

  template <class Ops, class V>
  HWY_INLINE V Power(Ops ops, V accum) const {
    if (k.power == 0.5f) return ops.Sqrt(accum);
    return ops.Pow(accum, k.power);
  }

  template <class Ops, class V>
  HWY_INLINE void operator()(Ops ops, V g, V& w, V& accum, V& linear) const {
    const V lr = ops.Set(k.lr), l1 = ops.Set(k.l1);
    const V shrunk = ops.Add(g, ops.Mul(ops.Set(2.0f * k.l2_shrinkage), w));
    const V new_accum = ops.Add(accum, ops.Mul(g, g));
    const V new_power = Power(ops, new_accum);
    const V sigma = ops.Div(ops.Sub(new_power, Power(ops, accum)), lr);
    linear = ops.Add(linear, ops.Sub(shrunk, ops.Mul(sigma, w)));
    const V quadratic = ops.Add(ops.Div(new_power, lr), ops.Set(2.0f * k.l2));
    const V candidate = ops.Div(ops.Sub(ops.CopySign(l1, linear), linear), quadratic);
    w = ops.WhereAbsAbove(linear, l1, candidate);
    accum = new_accum;
  }
};

void FtrlVector(const FtrlCoefficients& coefficients, const RowBatch& batch) {
  UpdateRows<VectorOps>(FtrlRule{coefficients}, batch);
}
void FtrlScalar(const FtrlCoefficients& coefficients, const RowBatch& batch) {
  UpdateRows<ScalarOps>(FtrlRule{coefficients}, batch);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(FtrlVector);

class FtrlOptimizer final : public Optimizer {
 public:
  FtrlOptimizer(const OptimizerOptions& options, KernelChoice kernels)
      : options_(options), kernels_(kernels) {}

  void InitSlots(float* slots, int dim) const override {
    std::fill_n(slots, dim, options_.initial_accumulator_value);
    std::fill_n(slots + dim, dim, 0.0f);
  }

  void Update(float* const* rows, const float* grads, size_t n, int dim,
              const StepParams& step) const override {
    // The formula divides by the rate; at rate 0 (a warm-up's first step) no row moves.
    if (step.learning_rate == 0.0f) return;
    const RowBatch batch{rows, grads, n, static_cast<size_t>(dim)};
    const FtrlCoefficients coefficients{step.learning_rate, -options_.learning_rate_power,
                                        options_.l1_regularization, options_.l2_regularization,
                                        options_.l2_shrinkage_regularization};
    const auto update = kernels_ == KernelChoice::kVector ? HWY_DYNAMIC_DISPATCH(FtrlVector)
                                                          : HWY_STATIC_DISPATCH(FtrlScalar);
    update(coefficients, batch);
  }

 private:
  OptimizerOptions options_;
  KernelChoice kernels_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeFtrl(const OptimizerOptions& options, KernelChoice kernels) {
  return std::make_unique<FtrlOptimizer>(options, kernels);
}

}  // namespace mxrec
#endif  // HWY_ONCE
