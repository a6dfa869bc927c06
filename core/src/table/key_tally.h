// KeyTally: how often keys were seen, for samples of some ten thousand keys. One flat table with
// open addressing: counting a key costs one cache line.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "index/key_hash.h"

namespace mxrec {

class KeyTally {
 public:
  struct Entry {
    int64_t key = 0;
    uint32_t count = 0;  // 0: the place is empty
  };

  // Makes room for `keys` more keys.
  void Reserve(size_t keys) {
    const size_t wanted = std::bit_ceil(2 * (size_ + keys) + 1);
    if (wanted <= entries_.size()) return;
    std::vector<Entry> old = std::exchange(entries_, std::vector<Entry>(wanted));
    size_ = 0;
    for (const Entry& entry : old) {
      if (entry.count > 0) Add(entry.key, entry.count);
    }
  }
  // There is room.
  void Add(int64_t key, uint32_t count) {
    const size_t mask = entries_.size() - 1;
    size_t place = static_cast<size_t>(HashKey(key)) & mask;
    while (entries_[place].count > 0 && entries_[place].key != key) place = (place + 1) & mask;
    size_ += entries_[place].count == 0;
    entries_[place].key = key;
    entries_[place].count += count;
  }
  // Calls visit(entry) for every key.
  template <class Visit>
  void ForEach(Visit&& visit) const {
    for (const Entry& entry : entries_) {
      if (entry.count > 0) visit(entry);
    }
  }
  // Halves the counts; keys that were seen once go.
  void Halve() {
    std::vector<Entry> old = std::exchange(entries_, {});
    size_t left = 0;
    for (const Entry& entry : old) left += entry.count > 1;
    size_ = 0;
    Reserve(left);
    for (const Entry& entry : old) {
      if (entry.count > 1) Add(entry.key, entry.count / 2);
    }
  }
  void Clear() {
    entries_.clear();
    size_ = 0;
  }
  size_t size() const { return size_; }

 private:
  std::vector<Entry> entries_;  // a power of two, or none
  size_t size_ = 0;
};

}  // namespace mxrec
