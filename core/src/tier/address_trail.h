// AddressTrail: which keys the addresses of rows meant that have left memory lately, so that
// gradients which come by address find their rows again.
//
// A training step may look a table up any number of times before it applies its gradients, and
// several workers may be at their steps at once. So time is counted in steps as well as in batches.
//
// The leavings are a queue; those of a slot are chained, the latest first, and what has left the
// queue ends a chain. So rows that leave and addresses that grow old cost no search.
//
// A row that is erased is gone, also where its key gets another one: the addresses from before mean
// neither.
//
// Not thread-safe: the shard's lock guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <new>
#include <unordered_map>
#include <vector>

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

  // first: for tests, the number of leavings before the first one.
  explicit AddressTrail(uint64_t first = 0) : first_(first) {}

  // May throw; then nothing is remembered.
  void Add(RowRef ref, uint16_t generation, int64_t key, Time now) {
    if (ref >= last_.size()) last_.resize(ref + 1);
    const uint32_t earlier = last_[ref];
    const auto number = static_cast<uint32_t>(first_ + left_.size());
    left_.push_back({key, now, ref, Holds(earlier) ? earlier : number, generation});
    last_[ref] = number;
  }
  bool Find(RowRef ref, uint16_t generation, int64_t* key) const {
    if (ref >= last_.size()) return false;
    for (uint32_t number = last_[ref]; Holds(number);) {
      const size_t place = PlaceOf(number);
      const Left& left = left_[place];
      if (left.ref != ref) return false;
      if (left.generation == generation) {
        const auto gone = gone_.find(left.key);
        if (gone != gone_.end() && first_ + place < gone->second) return false;
        *key = left.key;
        return true;
      }
      if (left.earlier == number) return false;
      number = left.earlier;
    }
    return false;
  }
  // The row of a key is erased. Without memory to note it, no address is remembered any more.
  void Gone(int64_t key) {
    if (left_.empty()) return;
    try {
      gone_[key] = first_ + left_.size();
    } catch (const std::bad_alloc&) {
      ForgetAll();
    }
  }
  void ForgetOld(Time now) {
    for (; !left_.empty() && IsOld(left_.front().time, now); left_.pop_front()) ++first_;
    if (gone_.size() <= left_.size() + 64) return;
    std::erase_if(gone_, [&](const auto& each) { return each.second <= first_; });
  }
  int64_t bytes() const {
    return static_cast<int64_t>(left_.size() * sizeof(Left) + last_.capacity() * sizeof(uint32_t) +
                                gone_.size() * (32 + 8));  // a node, its place in the table
  }

 private:
  struct Left {
    int64_t key;
    Time time;
    RowRef ref;
    uint32_t earlier;  // number of the slot's leaving before this one; its own: it was forgotten
    uint16_t generation;
  };
  // A number of 2^32 leavings ago may seem to be there; then it is that of another slot, or the
  // slot's latest.
  size_t PlaceOf(uint32_t number) const { return number - static_cast<uint32_t>(first_); }
  bool Holds(uint32_t number) const { return PlaceOf(number) < left_.size(); }
  void ForgetAll() {
    first_ += left_.size();
    left_.clear();
    gone_.clear();
  }
  static bool IsOld(Time then, Time now) {
    const uint32_t batches = now.batches - then.batches;
    return batches > kMostBatches || (batches > kBatches && now.steps - then.steps > kSteps);
  }
  std::deque<Left> left_;  // oldest first
  uint64_t first_;         // number of the first of them
  // By slot: number, modulo 2^32, of its latest leaving or of none that is here.
  std::vector<uint32_t> last_;
  // By key: the number of the next leaving when its row was erased.
  std::unordered_map<int64_t, uint64_t> gone_;
};

}  // namespace mxrec
