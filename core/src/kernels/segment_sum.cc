// SegmentSum. Every part of the work owns some of the segments: it goes over the whole index in
// ascending order and adds only what is its own, so any number of parts gives the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/segment_sum.cc"
#include "kernels/segment_sum.h"

#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/row_ops-inl.h"
#include "util/prefetch.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {

constexpr size_t kBlock = 1024;  // indices whose own ones stay in the L1 cache

// Writes those i of [begin, end) whose segment is the part's own. own: kBlock and a vector's lanes.
HWY_INLINE size_t OwnOccurrences(const SegmentPart& part, const int32_t* inverse, size_t begin,
                                 size_t end, uint32_t* own) {
  const hn::ScalableTag<uint32_t> d;
  const auto segments = hn::Set(d, part.segments);
  const auto which = hn::Set(d, (part.parts - 1) << part.group_bits);
  const auto mine = hn::Set(d, part.index << part.group_bits);
  const auto* indices = reinterpret_cast<const uint32_t*>(inverse);
  size_t found = 0, i = begin;
  for (; i + hn::Lanes(d) <= end; i += hn::Lanes(d)) {
    const auto j = hn::LoadU(d, indices + i);  // a negative index becomes larger than every segment
    const auto is_mine = hn::And(hn::Lt(j, segments), hn::Eq(hn::And(j, which), mine));
    hn::StoreU(hn::Compress(hn::Iota(d, static_cast<uint32_t>(i)), is_mine), d, own + found);
    found += hn::CountTrue(d, is_mine);
  }
  for (; i < end; ++i) {
    own[found] = static_cast<uint32_t>(i);
    found += part.Owns(indices[i]) ? 1 : 0;
  }
  return found;
}

template <class D>
HWY_INLINE void SumOwn(D d, const float* values, const int32_t* inverse, size_t n, size_t dim,
                       const SegmentPart& part, float* out) {
  // Clearing ahead is cheaper than telling the first value of a segment from later ones: that is
  // either a branch which nothing predicts or a chain of dependent steps through the batch.
  const size_t group = size_t{1} << part.group_bits;
  for (size_t j = part.index * group; j < part.segments; j += part.parts * group) {
    ClearRow(HWY_MIN(group, part.segments - j) * dim, out + j * dim);
  }
  if (part.parts == 1) {
    for (size_t i = 0; i < n; ++i) {
      const auto j = static_cast<uint32_t>(inverse[i]);
      if (j < part.segments) AddRow(d, values + i * dim, dim, out + j * dim);
    }
    return;
  }
  uint32_t own[kBlock + HWY_MAX_BYTES / sizeof(uint32_t)];
  for (size_t begin = 0; begin < n; begin += kBlock) {
    const size_t found = OwnOccurrences(part, inverse, begin, HWY_MIN(begin + kBlock, n), own);
    for (size_t k = 0; k < found; ++k) {
      const size_t i = own[k];
      AddRow(d, values + i * dim, dim, out + static_cast<size_t>(inverse[i]) * dim);
    }
  }
}

// A width that the compiler knows makes a row's loop straight code, and fills a vector of its own.
template <size_t kDim>
HWY_INLINE void SumOwnOf(const float* values, const int32_t* inverse, size_t n,
                         const SegmentPart& part, float* out) {
  SumOwn(hn::CappedTag<float, kDim>(), values, inverse, n, kDim, part, out);
}

void SumSegments(const float* values, const int32_t* inverse, size_t n, size_t dim,
                 const SegmentPart& part, float* out) {
  switch (dim) {
    case 8:
      return SumOwnOf<8>(values, inverse, n, part, out);
    case 16:
      return SumOwnOf<16>(values, inverse, n, part, out);
    case 32:
      return SumOwnOf<32>(values, inverse, n, part, out);
    case 64:
      return SumOwnOf<64>(values, inverse, n, part, out);
    default:
      return SumOwn(hn::ScalableTag<float>(), values, inverse, n, dim, part, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <bit>

#include "mxrec/runtime.h"
#include "util/worker_pool.h"

namespace mxrec::kernels {
namespace {

HWY_EXPORT(SumSegments);

// Floats below which a thread's start costs more than its work.
constexpr size_t kGrainFloats = size_t{1} << 15;

}  // namespace

void SegmentSum(const float* values, const int32_t* inverse, size_t n, size_t u, int dim,
                float* out) {
  if (u == 0) return;
  const size_t width = static_cast<size_t>(dim);
  const auto sum = HWY_DYNAMIC_DISPATCH(SumSegments);
  WorkerPool& pool = WorkerPool::Get();
  size_t threads = static_cast<size_t>(std::max(1, pool.num_threads()));
  // The hardware prefetcher brings the neighbours of a short row, so that every part reads about
  // all of the values: two threads on 106,000 rows of 64 bytes took 1.0 ms, one 0.7 ms.
  if (width * sizeof(float) < 4 * kCacheLine) threads = std::max<size_t>(1, threads / 2);
  // Rows that share a cache line go to one part.
  const size_t group = std::bit_ceil((kCacheLine / sizeof(float) + width - 1) / width);
  const size_t parts = std::bit_floor(
      std::min({threads, (u + group - 1) / group, (n + u) * width / kGrainFloats + 1}));
  pool.Run(parts, [&](size_t p) {
    const SegmentPart part{static_cast<uint32_t>(p), static_cast<uint32_t>(parts),
                           std::countr_zero(group), static_cast<uint32_t>(u)};
    sum(values, inverse, n, width, part, out);
  });
}

}  // namespace mxrec::kernels
#endif  // HWY_ONCE
