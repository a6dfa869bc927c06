// AddressTrail: which keys the addresses of rows meant that have left memory lately, so that
// gradients which come by address find their rows again.
//
// A training step may look a table up any number of times before it applies its gradients, and
// several workers may be at their steps at once. So time is counted in steps as well as in batches.
//
// Not thread-safe: the shard's lock guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>

#include "arena/row_arena.h"
#include "index/key_index.h"

namespace mxrec {

class AddressTrail {
 public:
  // An address outlives its row's leaving by so many steps and training batches, whichever is more,
  // but not by more than kMostBatches.
  static constexpr uint32_t kSteps = 8;
  static constexpr uint32_t kBatches = 64;
  static constexpr uint32_t kMostBatches = RowArena::kMoveBatches;

  // Modulo 2^32.
  struct Time {
    uint32_t batches = 0;  // that trained, inserted or erased
    uint32_t steps = 0;    // lookups that gave addresses after gradients came by address
  };

  // May throw; then nothing is remembered.
  void Add(RowRef ref, uint16_t generation, int64_t key, Time now) {
    const auto [at, added] = keys_.try_emplace(Id(ref, generation), key);
    if (!added) return;
    try {
      left_.push_back({now, at->first});
    } catch (...) {
      keys_.erase(at);
      throw;
    }
  }
  bool Find(RowRef ref, uint16_t generation, int64_t* key) const {
    const auto found = keys_.find(Id(ref, generation));
    if (found == keys_.end()) return false;
    *key = found->second;
    return true;
  }
  bool empty() const { return keys_.empty(); }
  void ForgetOld(Time now) {
    for (; !left_.empty() && IsOld(left_.front().time, now); left_.pop_front()) {
      keys_.erase(left_.front().id);
    }
  }
  // As the standard library allocates: a node of the map with its links, an entry of the queue.
  int64_t bytes() const { return static_cast<int64_t>(keys_.size() * (40 + 8 + 16)); }

 private:
  struct Left {
    Time time;
    uint64_t id;
  };
  static uint64_t Id(RowRef ref, uint16_t generation) {
    return static_cast<uint64_t>(ref) << 16 | generation;
  }
  static bool IsOld(Time then, Time now) {
    const uint32_t batches = now.batches - then.batches;
    return batches > kMostBatches || (batches > kBatches && now.steps - then.steps > kSteps);
  }
  std::unordered_map<uint64_t, int64_t> keys_;
  std::deque<Left> left_;  // oldest first
};

}  // namespace mxrec
