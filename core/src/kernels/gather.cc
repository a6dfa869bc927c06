// The row copy under every lookup: vector kernels per instruction set and, for high_precision, a
// plain loop. All of them move the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gather.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/row_copier.h"
#include "kernels/row_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {

// kDim: the row's floats, a power of two; 0: any.
template <size_t kDim>
using RowTag = hn::CappedTag<float, kDim == 0 ? HWY_MAX_BYTES / sizeof(float) : kDim>;

template <size_t kDim>
HWY_INLINE void CopyOne(const float* from, size_t dim, float* to) {
  const RowTag<kDim> d;
  size_t c = 0;
  for (; c + hn::Lanes(d) <= dim; c += hn::Lanes(d)) hn::StoreU(hn::LoadU(d, from + c), d, to + c);
  if constexpr (kDim == 0) {
    for (; c < dim; ++c) to[c] = from[c];
  }
}

template <size_t kDim>
void CopyRows(const float* const* rows, size_t n, size_t dim, const float* absent_row, float* out) {
  if constexpr (kDim != 0) dim = kDim;
  for (size_t i = 0; i < n; ++i, out += dim) {
    const float* from = rows[i] != nullptr ? rows[i] : absent_row;
    if (from != nullptr) [[likely]] {
      CopyOne<kDim>(from, dim, out);
    } else {
      ClearRow(dim, out);
    }
  }
}

// Past the caches: the output's lines are not read before they are overwritten.
template <size_t kDim>
void StreamRows(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                float* out) {
  if constexpr (kDim != 0) dim = kDim;
  const RowTag<kDim> d;
  // Narrower streaming stores than the widest vector's lose to ordinary ones.
  if (dim % hn::Lanes(d) != 0 ||
      reinterpret_cast<uintptr_t>(out) % (hn::Lanes(d) * sizeof(float)) != 0) {
    return CopyRows<kDim>(rows, n, dim, absent_row, out);
  }
  for (size_t i = 0; i < n; ++i, out += dim) {
    const float* from = rows[i] != nullptr ? rows[i] : absent_row;
    if (from != nullptr) [[likely]] {
      for (size_t c = 0; c < dim; c += hn::Lanes(d)) hn::Stream(hn::LoadU(d, from + c), d, out + c);
    } else {
      for (size_t c = 0; c < dim; c += hn::Lanes(d)) hn::Stream(hn::Zero(d), d, out + c);
    }
  }
}

CopyRowsFn ChooseCopyRows(size_t dim, bool stream) {
  switch (dim) {
    case 8:
      return stream ? StreamRows<8> : CopyRows<8>;
    case 16:
      return stream ? StreamRows<16> : CopyRows<16>;
    case 32:
      return stream ? StreamRows<32> : CopyRows<32>;
    case 64:
      return stream ? StreamRows<64> : CopyRows<64>;
    case 128:
      return stream ? StreamRows<128> : CopyRows<128>;
    default:
      return stream ? StreamRows<0> : CopyRows<0>;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <array>
#include <atomic>

#include "hwy/cache_control.h"
#include "mxrec/runtime.h"
#include "util/cache_size.h"
#include "util/prefetch.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {
std::atomic<GatherMode> gather_mode{GatherMode::kHighPerformance};
}

void SetGatherMode(GatherMode mode) { gather_mode.store(mode, std::memory_order_relaxed); }
GatherMode GetGatherMode() { return gather_mode.load(std::memory_order_relaxed); }

const char* GatherModeName(GatherMode mode) {
  return mode == GatherMode::kHighPrecision ? "high_precision" : "high_performance";
}

namespace kernels {
namespace {

HWY_EXPORT(ChooseCopyRows);

// Floats below which a thread's start costs more than its work.
constexpr size_t kGrainFloats = size_t{1} << 15;

void CopyRowsPlain(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                   float* out) {
  for (size_t i = 0; i < n; ++i) {
    const float* from = rows[i] != nullptr ? rows[i] : absent_row;
    for (size_t c = 0; c < dim; ++c) out[i * dim + c] = from != nullptr ? from[c] : 0.0f;
  }
}

size_t LastLevelCacheBytes() {
  const size_t bytes = CacheBytes(3);
  return bytes > 0 ? bytes : size_t{32} << 20;
}

std::atomic<size_t> streaming_threshold{0};  // 0: the machine's

}  // namespace

size_t StreamingThresholdBytes() {
  static const size_t of_machine = LastLevelCacheBytes() / 2;
  const size_t set = streaming_threshold.load(std::memory_order_relaxed);
  return set > 0 ? set : of_machine;
}

void SetStreamingThresholdBytes(size_t bytes) {
  streaming_threshold.store(bytes, std::memory_order_relaxed);
}

void RowCopier::Finish() const {
  if (streams_) hwy::FlushStream();
}

RowCopier ChooseRowCopier(int dim, size_t output_bytes) {
  if (GetGatherMode() == GatherMode::kHighPrecision) return RowCopier(CopyRowsPlain, false);
  const bool stream = output_bytes >= StreamingThresholdBytes();
  return RowCopier(HWY_DYNAMIC_DISPATCH(ChooseCopyRows)(static_cast<size_t>(dim), stream), stream,
                   !stream);
}

void GatherRows(const float* rows, const int32_t* inverse, size_t n, int dim, float* out) {
  if (n == 0 || dim <= 0) return;
  constexpr size_t kWindow = 32;
  const size_t width = static_cast<size_t>(dim);
  const RowCopier copy = ChooseRowCopier(dim, n * width * sizeof(float));
  const bool prefetch = GetGatherMode() == GatherMode::kHighPerformance;
  const size_t grain = std::max<size_t>(1, kGrainFloats / width);
  WorkerPool::Get().RunRanges(n, grain, [&](size_t begin, size_t end) {
    std::array<const float*, kWindow> from;
    for (size_t i = begin; i < end; i += kWindow) {
      const size_t m = std::min(kWindow, end - i);
      for (size_t j = 0; j < m; ++j) {
        const int32_t row = inverse[i + j];
        from[j] = row < 0 ? nullptr : rows + static_cast<size_t>(row) * width;
        if (prefetch && row >= 0) PrefetchRange(from[j], width * sizeof(float));
      }
      copy(from.data(), m, width, nullptr, out + i * width);
    }
    copy.Finish();
  });
}

}  // namespace kernels
}  // namespace mxrec
#endif  // HWY_ONCE
