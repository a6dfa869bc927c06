// LockOrder: finds a thread that takes locks in an order that could end in a deadlock, whether or
// not another thread is in the way this time. A lock has a rank; a thread takes a lock only while
// every ranked lock that it holds has a lower one. Whoever breaks that ends the program.
//
// Part of the ThreadSanitizer build (MXREC_CHECK_LOCK_ORDER): its own detector sees the mutex
// inside SharedMutex alone, which nobody holds for long. Empty otherwise.
#pragma once

#include <cstdint>

#if defined(MXREC_CHECK_LOCK_ORDER)
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>
#endif

namespace mxrec {

using LockRank = uint32_t;
inline constexpr LockRank kUnranked = 0;  // may be taken at any time
inline constexpr LockRank kStructureRank = 1;
inline constexpr LockRank kChangesRank = 2;
inline constexpr LockRank kFirstShardRank = 3;  // that of shard 0; the others follow

#if defined(MXREC_CHECK_LOCK_ORDER)
class LockOrder {
 public:
  explicit LockOrder(LockRank rank) : rank_(rank) {}

  void Take() const {
    if (rank_ == kUnranked) return;
    if (!Held().empty() && Held().back() >= rank_) {
      std::fprintf(stderr, "lock order: a thread takes rank %u while it holds rank %u\n", rank_,
                   Held().back());
      std::abort();
    }
    Held().push_back(rank_);
  }
  void Release() const {
    if (rank_ == kUnranked) return;
    const auto held = std::ranges::find(Held(), rank_);
    if (held == Held().end()) {
      std::fprintf(stderr, "lock order: a thread releases rank %u, which it does not hold\n",
                   rank_);
      std::abort();
    }
    Held().erase(held);
  }

 private:
  static std::vector<LockRank>& Held() {  // ascending
    thread_local std::vector<LockRank> held;
    return held;
  }

  const LockRank rank_;
};

// Two names of a lock (SameLock) that are names of two: whoever used the one holds not the other.
inline void CheckSameLock(const void* held, const void* again) {
  if (held == again) return;
  std::fprintf(stderr, "lock order: what was taken for one lock are two\n");
  std::abort();
}
#else
class LockOrder {
 public:
  explicit LockOrder(LockRank) {}
  void Take() const {}
  void Release() const {}
};
inline void CheckSameLock(const void*, const void*) {}
#endif

}  // namespace mxrec
