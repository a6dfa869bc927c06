// One row at a time: clear, add; and the search for a value that is not finite.
#if defined(MXREC_KERNELS_ROW_OPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MXREC_KERNELS_ROW_OPS_INL_H_
#undef MXREC_KERNELS_ROW_OPS_INL_H_
#else
#define MXREC_KERNELS_ROW_OPS_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE void ClearRow(size_t dim, float* row) {
  const hn::ScalableTag<float> d;
  size_t c = 0;
  for (; c + hn::Lanes(d) <= dim; c += hn::Lanes(d)) hn::StoreU(hn::Zero(d), d, row + c);
  for (; c < dim; ++c) row[c] = 0.0f;
}

// d: a vector no longer than the row, where the row's width is known.
template <class D>
HWY_INLINE void AddRow(D d, const float* from, size_t dim, float* sum) {
  size_t c = 0;
  for (; c + hn::Lanes(d) <= dim; c += hn::Lanes(d)) {
    hn::StoreU(hn::Add(hn::LoadU(d, sum + c), hn::LoadU(d, from + c)), d, sum + c);
  }
  for (; c < dim; ++c) sum[c] = sum[c] + from[c];
}

HWY_INLINE size_t FindNonFinite(const float* values, size_t begin, size_t end) {
  const hn::ScalableTag<float> d;
  size_t i = begin;
  while (i + hn::Lanes(d) <= end && hn::AllTrue(d, hn::IsFinite(hn::LoadU(d, values + i)))) {
    i += hn::Lanes(d);
  }
  while (i < end && std::isfinite(values[i])) ++i;
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
