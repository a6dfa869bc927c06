#include "kernels/magnitude.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/magnitude.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Magnitudes of floats order like their bits, NaN above infinity.
float MagnitudeOf(const float* values, size_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto load = [&](size_t i)
                        HWY_ATTR { return hn::BitCast(di, hn::Abs(hn::LoadU(d, values + i))); };
  const size_t lanes = hn::Lanes(d);
  auto most = hn::Zero(di), most1 = most, most2 = most, most3 = most;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    most = hn::Max(most, load(i));
    most1 = hn::Max(most1, load(i + lanes));
    most2 = hn::Max(most2, load(i + 2 * lanes));
    most3 = hn::Max(most3, load(i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) most = hn::Max(most, load(i));
  most = hn::Max(hn::Max(most, most1), hn::Max(most2, most3));
  int32_t largest = hn::GetLane(hn::MaxOfLanes(di, most));
  for (; i < n; ++i) largest = std::max(largest, std::bit_cast<int32_t>(std::fabs(values[i])));
  return std::bit_cast<float>(largest);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec::kernels {
namespace {
HWY_EXPORT(MagnitudeOf);
}  // namespace

float LargestMagnitude(const float* values, size_t n) {
  return HWY_DYNAMIC_DISPATCH(MagnitudeOf)(values, n);
}

}  // namespace mxrec::kernels
#endif  // HWY_ONCE
