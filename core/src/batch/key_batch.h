// KeyBatch: a batch of keys grouped by shard and deduplicated.
//
// Occurrences and unique keys of shard s lie in [begin(s), begin(s + 1)) of their arrays; within a
// shard both keep batch order (unique keys: that of their first occurrence), so whatever is summed
// over them is summed in the same order for any number of threads and shards.
//
// Usage: Partition, then Deduplicate(s) for each shard (concurrently if you like), then Number.
// Objects are reused through Acquire: their arrays are scratch of several MB for large batches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mxrec/table_types.h"
#include "util/buffer.h"

namespace mxrec {

class KeyBatch {
 public:
  enum class Grouping : uint8_t {
    kKeys,       // by hash: ShardOf(HashKey(key))
    kAddresses,  // by the shard in the address
  };
  struct Release {
    void operator()(KeyBatch* batch) const;
  };
  using Ptr = std::unique_ptr<KeyBatch, Release>;
  static Ptr Acquire();

  void Partition(KeySpan keys, int shard_bits, Grouping grouping);
  void Deduplicate(uint32_t shard);
  // Numbers the unique keys of all shards by first occurrence in the batch: rank(u) in [0, total).
  // Returns the total.
  size_t Number();
  // For unique key u: its place in the order of first occurrence. After Number.
  uint32_t rank(size_t u) const { return rank_at_[first[u]]; }
  const uint32_t* rank_at() const {
    return rank_at_.data();
  }  // by position of the first occurrence

  size_t size() const { return n_; }
  uint32_t shards() const { return shards_; }
  size_t begin(uint32_t shard) const { return begin_[shard]; }
  size_t end(uint32_t shard) const { return begin_[shard + 1]; }
  size_t unique_end(uint32_t shard) const { return begin_[shard] + unique_count_[shard]; }

  int64_t occurrence_key(size_t j) const { return occurrence_key_[j]; }
  // Per occurrence: where it stands in the batch; which unique key it is (after Deduplicate).
  Buffer<uint32_t> position;
  Buffer<uint32_t> unique_of;
  // Per unique key.
  Buffer<int64_t> key;
  Buffer<uint64_t> hash;
  Buffer<uint32_t> first;  // position of the first occurrence
  Buffer<uint32_t> count;
  // Room for the caller, per unique key.
  Buffer<uint32_t> ref;
  Buffer<uint32_t> rank_of;
  Buffer<int64_t> address;
  Buffer<uint32_t> old_frequency;
  Buffer<uint32_t> old_time;
  Buffer<uint8_t> fresh;
  Buffer<uint32_t> time;        // of the last occurrence, where occurrences have times of their own
  Buffer<uint8_t> refused;      // by admission: a Refusal
  Buffer<uint16_t> generation;  // of ref, in a batch prepared ahead
  size_t distinct = 0;          // what Number returned, in a batch prepared ahead
  Buffer<uint32_t> count_at;    // where the counters keep the count of a refused key

 private:
  uint64_t HashOf(int64_t k) const;
  template <class Key, class ShardOfKey>
  void Scatter(const Key* keys, ShardOfKey shard_of);

  size_t n_ = 0;
  uint32_t shards_ = 1;
  int shard_bits_ = 0;
  Grouping grouping_ = Grouping::kKeys;
  std::vector<size_t> begin_;
  std::vector<size_t> unique_count_;
  Buffer<int64_t> occurrence_key_;
  Buffer<uint8_t> is_first_;  // by batch position
  Buffer<uint8_t> shard_at_;  // by batch position
  Buffer<uint32_t> rank_at_;  // by batch position
  std::vector<size_t> cursors_;
};

}  // namespace mxrec
