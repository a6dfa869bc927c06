#include "batch/key_batch.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

#include "arena/address.h"
#include "index/key_hash.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

constexpr size_t kPartitionGrain = 8192;
constexpr size_t kKeptBatches = 16;
constexpr size_t kKeptKeys = size_t{1} << 20;  // larger scratch is given back

struct FreeList {
  std::mutex mu;
  std::vector<std::unique_ptr<KeyBatch>> batches;
};

FreeList& Batches() {
  static FreeList* list = new FreeList;
  return *list;
}

}  // namespace

KeyBatch::Ptr KeyBatch::Acquire() {
  FreeList& list = Batches();
  std::lock_guard lock(list.mu);
  if (list.batches.empty()) return Ptr(new KeyBatch);
  Ptr batch(list.batches.back().release());
  list.batches.pop_back();
  return batch;
}

void KeyBatch::Release::operator()(KeyBatch* batch) const {
  std::unique_ptr<KeyBatch> owned(batch);
  if (batch->position.capacity_bytes() > kKeptKeys * sizeof(uint32_t)) return;
  FreeList& list = Batches();
  std::lock_guard lock(list.mu);
  if (list.batches.size() < kKeptBatches) list.batches.push_back(std::move(owned));
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
  address.Reserve(n_);
  old_frequency.Reserve(n_);
  old_time.Reserve(n_);
  fresh.Reserve(n_);
  occurrence_key_.Reserve(n_);
  is_first_.Reserve(n_);
  rank_at_.Reserve(n_);
  begin_.assign(shards_ + 1, 0);
  unique_count_.assign(shards_, 0);

  // A stable counting sort by shard, in contiguous chunks: count, prefix sums, scatter.
  WorkerPool& pool = WorkerPool::Get();
  const size_t chunks =
      std::clamp<size_t>(n_ / kPartitionGrain, 1, static_cast<size_t>(pool.num_threads()));
  cursors_.assign(chunks * shards_, 0);
  pool.Run(chunks, [&](size_t c) {
    size_t* counts = &cursors_[c * shards_];
    for (size_t i = n_ * c / chunks, e = n_ * (c + 1) / chunks; i < e; ++i) {
      ++counts[ShardOf(HashOf(keys[i]), shard_bits)];
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
  pool.Run(chunks, [&](size_t c) {
    size_t* next = &cursors_[c * shards_];
    for (size_t i = n_ * c / chunks, e = n_ * (c + 1) / chunks; i < e; ++i) {
      const size_t to = next[ShardOf(HashOf(keys[i]), shard_bits)]++;
      occurrence_key_[to] = keys[i];
      position[to] = static_cast<uint32_t>(i);
      is_first_[i] = 0;
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
  size_t u = b;
  for (size_t j = b; j < e; ++j) {
    const int64_t k = occurrence_key_[j];
    const uint64_t h = HashOf(k);
    // The low bits choose the index bucket and the high ones the shard: use those between.
    size_t slot = (h >> 20) & mask;
    uint32_t found;
    while ((found = slots[slot]) != 0 && key[b + found - 1] != k) slot = (slot + 1) & mask;
    if (found == 0) {
      found = static_cast<uint32_t>(u - b + 1);
      slots[slot] = found;
      key[u] = k;
      hash[u] = h;
      first[u] = position[j];
      count[u] = 0;
      is_first_[position[j]] = 1;
      ++u;
    }
    const size_t unique = b + found - 1;
    ++count[unique];
    unique_of[j] = static_cast<uint32_t>(unique);
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
