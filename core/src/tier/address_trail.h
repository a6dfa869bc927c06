// AddressTrail: which keys the addresses of rows meant that have left memory lately, so that
// gradients which come by address find their rows again.
//
// Not thread-safe: the shard's lock guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>

#include "index/key_index.h"

namespace mxrec {

class AddressTrail {
 public:
  // Training batches that an address outlives its row's leaving by. A step looks a table up a few
  // times before it applies its gradients.
  static constexpr uint32_t kBatches = 64;

  // May throw; then nothing is remembered.
  void Add(RowRef ref, uint16_t generation, int64_t key, uint32_t batch) {
    const auto [at, added] = keys_.try_emplace(Id(ref, generation), key);
    if (!added) return;
    try {
      left_.emplace_back(batch, at->first);
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
  void ForgetOld(uint32_t batch) {
    for (; !left_.empty() && batch - left_.front().first > kBatches; left_.pop_front()) {
      keys_.erase(left_.front().second);
    }
  }
  // As the standard library allocates: a node of the map with its links, an entry of the queue.
  int64_t bytes() const { return static_cast<int64_t>(keys_.size() * (40 + 8 + 16)); }

 private:
  static uint64_t Id(RowRef ref, uint16_t generation) {
    return static_cast<uint64_t>(ref) << 16 | generation;
  }
  std::unordered_map<uint64_t, int64_t> keys_;
  std::deque<std::pair<uint32_t, uint64_t>> left_;  // batch, id; oldest first
};

}  // namespace mxrec
