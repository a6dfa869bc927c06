// The one loop of all optimizers, compiled once per instruction set. A rule says how one element
// changes; it is written once against Ops, which is a vector or a float, so that the vector kernel
// and the scalar reference are the same sequence of exactly rounded operations. Rules use no
// fused multiply-add, and the build turns contraction off, or the two would differ.
//
// A rule has `static constexpr int kSlots` and
//   template <class Ops> void operator()(Ops ops, V g, V& w[, V& slot0[, V& slot1]]) const
#if defined(MXREC_OPTIMIZERS_UPDATE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MXREC_OPTIMIZERS_UPDATE_ROWS_INL_H_
#undef MXREC_OPTIMIZERS_UPDATE_ROWS_INL_H_
#else
#define MXREC_OPTIMIZERS_UPDATE_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "hwy/highway.h"
#include "optimizers/row_batch.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct ScalarOps {
  using V = float;
  static size_t Lanes() { return 1; }
  static V Load(const float* p) { return *p; }
  static void Store(V v, float* p) { *p = v; }
  static V Set(float x) { return x; }
  static V Add(V a, V b) { return a + b; }
  static V Sub(V a, V b) { return a - b; }
  static V Mul(V a, V b) { return a * b; }
  static V Div(V a, V b) { return a / b; }
  static V Sqrt(V a) { return std::sqrt(a); }
  static V Pow(V a, float power) { return std::pow(a, power); }
  static V CopySign(V magnitude, V sign) { return std::copysign(magnitude, sign); }
  // |a| > limit ? value : 0
  static V WhereAbsAbove(V a, V limit, V value) { return std::fabs(a) > limit ? value : 0.0f; }
};

struct VectorOps {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static HWY_INLINE size_t Lanes() { return hn::Lanes(D()); }
  static HWY_INLINE V Load(const float* p) { return hn::LoadU(D(), p); }
  static HWY_INLINE void Store(V v, float* p) { hn::StoreU(v, D(), p); }
  static HWY_INLINE V Set(float x) { return hn::Set(D(), x); }
  static HWY_INLINE V Add(V a, V b) { return hn::Add(a, b); }
  static HWY_INLINE V Sub(V a, V b) { return hn::Sub(a, b); }
  static HWY_INLINE V Mul(V a, V b) { return hn::Mul(a, b); }
  static HWY_INLINE V Div(V a, V b) { return hn::Div(a, b); }
  static HWY_INLINE V Sqrt(V a) { return hn::Sqrt(a); }
  // Lane by lane: an approximation of its own would leave the reference.
  static HWY_INLINE V Pow(V a, float power) {
    HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(a, D(), lanes);
    for (size_t i = 0; i < Lanes(); ++i) lanes[i] = ScalarOps::Pow(lanes[i], power);
    return hn::Load(D(), lanes);
  }
  static HWY_INLINE V CopySign(V magnitude, V sign) { return hn::CopySign(magnitude, sign); }
  static HWY_INLINE V WhereAbsAbove(V a, V limit, V value) {
    return hn::IfThenElseZero(hn::Gt(hn::Abs(a), limit), value);
  }
};

template <class Ops, class Rule>
HWY_INLINE void UpdateElements(const Rule& rule, const float* g, float* row, size_t dim, size_t c) {
  const Ops ops;
  auto w = ops.Load(row + c);
  if constexpr (Rule::kSlots == 0) {
    rule(ops, ops.Load(g + c), w);
  } else {
    float* slot0 = row + dim + c;
    auto s0 = ops.Load(slot0);
    if constexpr (Rule::kSlots == 1) {
      rule(ops, ops.Load(g + c), w, s0);
    } else {
      static_assert(Rule::kSlots == 2);
      float* slot1 = slot0 + dim;
      auto s1 = ops.Load(slot1);
      rule(ops, ops.Load(g + c), w, s0, s1);
      ops.Store(s1, slot1);
    }
    ops.Store(s0, slot0);
  }
  ops.Store(w, row + c);
}

// Rows lie anywhere in memory, so the hardware cannot guess the next one; within a long row it can.
HWY_INLINE void PrefetchRow(const float* row, size_t floats) {
  constexpr size_t kLine = 64 / sizeof(float), kMaxFloats = 16 * kLine;
  const size_t end = std::min(floats, kMaxFloats);
  for (size_t c = 0; c < end; c += kLine) __builtin_prefetch(row + c, 1);
  // An unaligned row ends in one line more.
  __builtin_prefetch(row + end - 1, 1);
}

template <class Ops, class Rule>
HWY_INLINE void UpdateRows(const Rule& rule, const RowBatch& batch) {
  constexpr size_t kAhead = 6;
  const size_t dim = batch.dim;
  const size_t row_floats = dim * (1 + Rule::kSlots);
  const size_t lanes = Ops::Lanes();
  for (size_t i = 0; i < std::min(kAhead, batch.n); ++i) PrefetchRow(batch.rows[i], row_floats);
  for (size_t i = 0; i < batch.n; ++i) {
    if (i + kAhead < batch.n) PrefetchRow(batch.rows[i + kAhead], row_floats);
    float* row = batch.rows[i];
    const float* g = batch.grads + i * dim;
    size_t c = 0;
    for (; c + lanes <= dim; c += lanes) UpdateElements<Ops>(rule, g, row, dim, c);
    for (; c < dim; ++c) UpdateElements<ScalarOps>(rule, g, row, dim, c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
