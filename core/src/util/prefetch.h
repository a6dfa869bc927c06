#pragma once

#include <cstddef>
#include <cstdint>

namespace mxrec {

inline constexpr size_t kCacheLine = 64;

// Always inlined: GCC takes a function that only prefetches for one without effect and drops calls
// of it, which is what calls from code for another instruction set stay until late.
#define MXREC_PREFETCH_INLINE [[gnu::always_inline]] inline

MXREC_PREFETCH_INLINE void Prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
MXREC_PREFETCH_INLINE void PrefetchForWrite(const void* p) { __builtin_prefetch(p, 1, 3); }

// Every line of [p, p + bytes), up to a limit beyond which the hardware prefetcher takes over.
MXREC_PREFETCH_INLINE void PrefetchRange(const void* p, size_t bytes) {
  if (bytes > 8 * kCacheLine) bytes = 8 * kCacheLine;
  const auto begin = reinterpret_cast<uintptr_t>(p);
  for (uintptr_t line = begin / kCacheLine * kCacheLine; line < begin + bytes; line += kCacheLine) {
    Prefetch(reinterpret_cast<const void*>(line));
  }
}

}  // namespace mxrec
