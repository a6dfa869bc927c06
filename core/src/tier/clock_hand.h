// ClockHand: which rows of a shard have been cold the longest, as far as a hand can tell that comes
// by now and then: a CLOCK over frequency and age.
//
// Nobody marks a row when it is used: a row counts its uses and notes the time of the last one, so
// one where either has changed since the hand last came by has been used. (Both only grow. Counts
// stand still while admission is frozen; times do for uses within a second.) Such a row, and one
// that the hand has not seen before, stays. Of the others the score is the row's frequency, halved
// for every half-life, that is so many times that the hand came by in vain; rows with a score up to
// the caller's threshold are cold.
//
// A row that a batch announced for later needs is wanted until that batch has passed: it leaves
// when nothing else can.
//
// Not thread-safe, except that Want and Wanted may run beside each other.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/key_index.h"

namespace mxrec {

class ClockHand {
 public:
  static constexpr uint32_t kHalfLife = 64;
  // While counts stand still: they say less and less of what is popular now.
  static constexpr uint32_t kFrozenHalfLife = 4;

  uint64_t position = 0;  // in the shard's index

  bool Knows(uint32_t slots) const { return slots <= seen_.size(); }
  // Rows with slots below are known of. May throw.
  void Reserve(uint32_t slots) {
    if (slots <= seen_.size()) return;
    wanted_.resize(slots);
    seen_.resize(slots);
  }
  // The hand comes by. *score is set for rows that were not used.
  bool Visit(RowRef ref, uint32_t frequency, uint32_t last_time, uint32_t half_life,
             uint32_t* score) {
    Seen& seen = seen_[ref];
    const auto uses = static_cast<uint16_t>(frequency + last_time);
    if (seen.visits == 0 || seen.uses != uses) {
      seen = {uses, 1};
      return false;
    }
    seen.visits = static_cast<uint16_t>(std::min<uint32_t>(seen.visits + 1u, 0xFFFF));
    *score = frequency >> std::min<uint32_t>(31, seen.visits / half_life);
    return true;
  }
  // By the table's batch number `until`. A slot that the hand has not heard of bears no mark.
  void Want(RowRef ref, uint32_t until) {
    if (ref < wanted_.size()) std::atomic_ref(wanted_[ref]).store(until, std::memory_order_relaxed);
  }
  bool Wanted(RowRef ref, uint32_t batch) {
    const uint32_t until = std::atomic_ref(wanted_[ref]).load(std::memory_order_relaxed);
    return until - batch - 1 < kFarthest;
  }
  // The slot is another row's from now on.
  void Forget(RowRef ref) {
    if (ref >= seen_.size()) return;
    seen_[ref] = {};
    wanted_[ref] = 0;
  }
  int64_t bytes() const {
    return static_cast<int64_t>(seen_.capacity() * sizeof(Seen) +
                                wanted_.capacity() * sizeof(uint32_t));
  }

 private:
  struct Seen {
    uint16_t uses = 0;    // last bits of the count and the time, added up
    uint16_t visits = 0;  // since the row was used; 0: not seen yet
  };
  static constexpr uint32_t kFarthest = 1024;  // batches ahead
  std::vector<Seen> seen_;                     // by slot
  std::vector<uint32_t> wanted_;               // by slot: until when
};

}  // namespace mxrec
