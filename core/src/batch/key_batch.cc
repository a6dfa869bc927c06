#include "batch/key_batch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "arena/address.h"
#include "index/key_hash.h"
#include "util/mutex.h"
#include "util/prefetch.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

constexpr size_t kPartitionGrain = 8192;
// Scratch that is kept: an input pipeline has batches of many tables under way.
constexpr size_t kKeptBatches = 512;
constexpr size_t kKeptInAll = size_t{1} << 22;  // keys
constexpr size_t kKeptKeys = size_t{1} << 20;   // larger scratch is given back

// The low bits choose the index bucket and the high ones the shard: use those between.
size_t SlotOf(uint64_t hash) { return hash >> 20; }

struct FreeList {
  Mutex mu;
  std::vector<std::unique_ptr<KeyBatch>> batches MXREC_GUARDED_BY(mu);
  size_t keys MXREC_GUARDED_BY(mu) = 0;  // that they have room for
};

FreeList& Batches() {
  static FreeList* list = new FreeList;
  return *list;
}

}  // namespace

KeyBatch::Ptr KeyBatch::Acquire() {
  FreeList& list = Batches();
  const MutexLock lock(list.mu);
  if (list.batches.empty()) return Ptr(new KeyBatch);
  Ptr batch(list.batches.back().release());
  list.batches.pop_back();
  list.keys -= batch->position.capacity_bytes() / sizeof(uint32_t);
  return batch;
}

void KeyBatch::Release::operator()(KeyBatch* batch) const {
  std::unique_ptr<KeyBatch> owned(batch);
  const size_t keys = batch->position.capacity_bytes() / sizeof(uint32_t);
  if (keys > kKeptKeys) return;
  FreeList& list = Batches();
  const MutexLock lock(list.mu);
  if (list.batches.size() == kKeptBatches || list.keys + keys > kKeptInAll) return;
  list.batches.push_back(std::move(owned));
  list.keys += keys;
}

uint64_t KeyBatch::HashOf(int64_t k) const {
  if (grouping_ == Grouping::kKeys) return HashKey(k);
  const uint64_t mixed = HashKey(k);
  if (shard_bits_ == 0) return mixed;
  const auto shard = static_cast<uint64_t>(k) & ((uint64_t{1} << shard_bits_) - 1);
  return (mixed >> shard_bits_) | (shard << (64 - shard_bits_));
}

void KeyBatch::Partition(KeySpan keys, int shard_bits, Grouping grouping) {
  n_ = keys.size();
  shard_bits_ = shard_bits;
  shards_ = 1u << shard_bits;
  grouping_ = grouping;
  position.Reserve(n_);
  unique_of.Reserve(n_);
  key.Reserve(n_);
  hash.Reserve(n_);
  first.Reserve(n_);
  count.Reserve(n_);
  ref.Reserve(n_);
  rank_of.Reserve(n_);
  address.Reserve(n_);
  old_frequency.Reserve(n_);
  old_time.Reserve(n_);
  fresh.Reserve(n_);
  time.Reserve(n_);
  refused.Reserve(n_);
  count_at.Reserve(n_);
  occurrence_key_.Reserve(n_);
  is_first_.Reserve(n_);
  shard_at_.Reserve(n_);
  rank_at_.Reserve(n_);
  begin_.assign(shards_ + 1, 0);
  unique_count_.assign(shards_, 0);

  if (grouping == Grouping::kKeys) {
    const auto shard_of = [shard_bits](int64_t k) { return ShardOf(HashKey(k), shard_bits); };
    keys.Dispatch([&](const auto* k) { Scatter(k, shard_of); });
  } else {
    const uint64_t mask = shards_ - 1;
    const auto shard_of = [mask](int64_t k) {
      return static_cast<uint32_t>(static_cast<uint64_t>(k) & mask);
    };
    keys.Dispatch([&](const auto* k) { Scatter(k, shard_of); });
  }
}

// A stable counting sort by shard, in contiguous chunks: count, prefix sums, scatter.
template <class Key, class ShardOfKey>
void KeyBatch::Scatter(const Key* keys, ShardOfKey shard_of) {
  WorkerPool& pool = WorkerPool::Get();
  const size_t chunks =
      std::clamp<size_t>(n_ / kPartitionGrain, 1, static_cast<size_t>(pool.num_threads()));
  cursors_.assign(chunks * shards_, 0);
  uint8_t* shards = shard_at_.data();
  pool.Run(chunks, [&](size_t c) {
    size_t* counts = &cursors_[c * shards_];
    for (size_t i = n_ * c / chunks, e = n_ * (c + 1) / chunks; i < e; ++i) {
      const uint32_t s = shard_of(keys[i]);
      shards[i] = static_cast<uint8_t>(s);
      ++counts[s];
    }
  });
  size_t total = 0;
  for (uint32_t s = 0; s < shards_; ++s) {
    begin_[s] = total;
    for (size_t c = 0; c < chunks; ++c) {
      const size_t here = cursors_[c * shards_ + s];
      cursors_[c * shards_ + s] = total;
      total += here;
    }
  }
  begin_[shards_] = total;
  int64_t* occurrence_keys = occurrence_key_.data();
  uint32_t* positions = position.data();
  pool.Run(chunks, [&](size_t c) {
    size_t* next = &cursors_[c * shards_];
    const size_t b = n_ * c / chunks, e = n_ * (c + 1) / chunks;
    std::memset(is_first_.data() + b, 0, e - b);
    for (size_t i = b; i < e; ++i) {
      const size_t to = next[shards[i]]++;
      occurrence_keys[to] = keys[i];
      positions[to] = static_cast<uint32_t>(i);
    }
  });
}

void KeyBatch::Deduplicate(uint32_t shard) {
  const size_t b = begin_[shard];
  const size_t e = begin_[shard + 1];
  if (b == e) return;
  static thread_local std::vector<uint32_t> slots;  // unique index + 1; 0: empty
  const size_t capacity = std::bit_ceil((e - b) * 2);
  if (slots.size() < capacity) slots.resize(capacity);
  std::memset(slots.data(), 0, capacity * sizeof(uint32_t));
  const size_t mask = capacity - 1;
  constexpr size_t kBlock = 32;
  std::array<uint64_t, kBlock> hashes;
  size_t u = b;
  for (size_t block = b; block < e; block += kBlock) {
    const size_t n = std::min(kBlock, e - block);
    for (size_t k = 0; k < n; ++k) {
      hashes[k] = HashOf(occurrence_key_[block + k]);
      Prefetch(&slots[SlotOf(hashes[k]) & mask]);
    }
    for (size_t k = 0; k < n; ++k) {
      const size_t j = block + k;
      const int64_t wanted = occurrence_key_[j];
      size_t slot = SlotOf(hashes[k]) & mask;
      uint32_t found;
      while ((found = slots[slot]) != 0 && key[b + found - 1] != wanted) slot = (slot + 1) & mask;
      if (found == 0) {
        found = static_cast<uint32_t>(u - b + 1);
        slots[slot] = found;
        key[u] = wanted;
        hash[u] = hashes[k];
        first[u] = position[j];
        count[u] = 0;
        is_first_[position[j]] = 1;
        ++u;
      }
      const size_t unique = b + found - 1;
      ++count[unique];
      unique_of[j] = static_cast<uint32_t>(unique);
    }
  }
  unique_count_[shard] = u - b;
  if (slots.size() > kKeptKeys) {
    slots.clear();
    slots.shrink_to_fit();
  }
}

size_t KeyBatch::Number() {
  uint32_t next = 0;
  for (size_t i = 0; i < n_; ++i) {
    rank_at_[i] = next;
    next += is_first_[i];
  }
  return next;
}

}  // namespace mxrec
