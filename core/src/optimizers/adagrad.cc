// Adagrad as TensorFlow's SparseApplyAdagrad: a += g^2, w -= lr * g / sqrt(a).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optimizers/adagrad.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "optimizers/make.h"
#include "optimizers/update_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {

struct AdagradRule {
  static constexpr int kSlots = 1;
  float lr;

  template <class Ops, class V>
  HWY_INLINE void operator()(Ops ops, V g, V& w, V& accum) const {
    accum = ops.Add(accum, ops.Mul(g, g));
    w = ops.Sub(w, ops.Div(ops.Mul(g, ops.Set(lr)), ops.Sqrt(accum)));
  }
};

void AdagradVector(float lr, const RowBatch& batch) {
  UpdateRows<VectorOps>(AdagradRule{lr}, batch);
}
void AdagradScalar(float lr, const RowBatch& batch) {
  UpdateRows<ScalarOps>(AdagradRule{lr}, batch);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(AdagradVector);

class AdagradOptimizer final : public Optimizer {
 public:
  AdagradOptimizer(const OptimizerOptions& options, KernelChoice kernels)
      : options_(options), kernels_(kernels) {}

  void InitSlots(float* slots, int dim) const override {
    std::fill_n(slots, dim, options_.initial_accumulator_value);
  }

  void Update(float* const* rows, const float* grads, size_t n, int dim,
              const StepParams& step) const override {
    const RowBatch batch{rows, grads, n, static_cast<size_t>(dim)};
    const auto update = kernels_ == KernelChoice::kVector ? HWY_DYNAMIC_DISPATCH(AdagradVector)
                                                          : HWY_STATIC_DISPATCH(AdagradScalar);
    update(step.learning_rate, batch);
  }

 private:
  OptimizerOptions options_;
  KernelChoice kernels_;
};

}  // namespace

std::unique_ptr<Optimizer> MakeAdagrad(const OptimizerOptions& options, KernelChoice kernels) {
  return std::make_unique<AdagradOptimizer>(options, kernels);
}

}  // namespace mxrec
#endif  // HWY_ONCE
