#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/row_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {

// Sums the segments [begin, end) and reads no others' sums.
void SumSegments(const float* values, const int32_t* inverse, size_t n, size_t begin, size_t end,
                 size_t dim, float* out) {
  ClearRow((end - begin) * dim, out + begin * dim);
  for (size_t i = 0; i < n; ++i) {
    // A negative index becomes larger than every end.
    const size_t j = static_cast<size_t>(static_cast<int64_t>(inverse[i]));
    if (j >= begin && j < end) AddRow(values + i * dim, dim, out + j * dim);
  }
}

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
#include <vector>

#include "mxrec/kernels.h"
#include "util/worker_pool.h"

namespace mxrec::kernels {
namespace {

HWY_EXPORT(SumSegments);
HWY_EXPORT(NonFiniteInRange);
HWY_EXPORT(TargetOfThis);

// Floats below which a thread's start costs more than its work.
constexpr size_t kGrainFloats = size_t{1} << 15;

// Splits [0, u) into `parts` ranges of about equally many occurrences: a few hot segments hold most
// of a skewed batch. Result: parts + 1 ascending bounds.
std::vector<size_t> BalancedBounds(const int32_t* inverse, size_t n, size_t u, size_t parts) {
  std::vector<uint32_t> work(u, 1);  // clearing a row costs about as much as adding one
  for (size_t i = 0; i < n; ++i) {
    if (inverse[i] >= 0 && static_cast<size_t>(inverse[i]) < u) ++work[inverse[i]];
  }
  size_t total = 0;
  for (const uint32_t w : work) total += w;
  std::vector<size_t> bounds(parts + 1, u);
  bounds[0] = 0;
  size_t sum = 0, part = 1;
  for (size_t j = 0; j < u && part < parts; ++j) {
    sum += work[j];
    while (part < parts && sum * parts >= total * part) bounds[part++] = j + 1;
  }
  return bounds;
}

}  // namespace

void SegmentSum(const float* values, const int32_t* inverse, size_t n, size_t u, int dim,
                float* out) {
  if (u == 0) return;
  const size_t width = static_cast<size_t>(dim);
  const auto sum = HWY_DYNAMIC_DISPATCH(SumSegments);
  WorkerPool& pool = WorkerPool::Get();
  const size_t threads = static_cast<size_t>(std::max(1, pool.num_threads()));
  const size_t parts = std::min({threads, u, (n + u) * width / kGrainFloats + 1});
  if (parts == 1) {
    sum(values, inverse, n, 0, u, width, out);
    return;
  }
  // A segment belongs to one thread, which adds in ascending i: any split gives the same bits.
  const std::vector<size_t> bounds = BalancedBounds(inverse, n, u, parts);
  pool.Run(parts, [&](size_t part) {
    sum(values, inverse, n, bounds[part], bounds[part + 1], width, out);
  });
}

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
