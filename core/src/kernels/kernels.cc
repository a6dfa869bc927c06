#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/row_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {

size_t NonFiniteInRange(const float* values, size_t begin, size_t end) {
  return FindNonFinite(values, begin, end);
}

const char* TargetOfThis() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <atomic>

#include "mxrec/runtime.h"
#include "util/worker_pool.h"

namespace mxrec::kernels {
namespace {

HWY_EXPORT(NonFiniteInRange);
HWY_EXPORT(TargetOfThis);

// Floats below which a thread's start costs more than its work.
constexpr size_t kGrainFloats = size_t{1} << 15;

}  // namespace

size_t FirstNonFinite(const float* values, size_t n) {
  const auto find = HWY_DYNAMIC_DISPATCH(NonFiniteInRange);
  std::atomic<size_t> first{n};
  WorkerPool::Get().RunRanges(n, kGrainFloats, [&](size_t begin, size_t end) {
    const size_t found = find(values, begin, end);
    if (found == end) return;
    size_t known = first.load(std::memory_order_relaxed);
    while (found < known && !first.compare_exchange_weak(known, found)) continue;
  });
  return first.load();
}

const char* Target() { return HWY_DYNAMIC_DISPATCH(TargetOfThis)(); }

}  // namespace mxrec::kernels
#endif  // HWY_ONCE
