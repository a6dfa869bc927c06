// TableState: what changes nothing.
#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "kernels/row_copier.h"
#include "mxrec/runtime.h"
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kWindow = 32;  // keys in flight: covers the latency of memory
constexpr size_t kReadGrain = kParallelKeys;

}  // namespace

const float* TableState::FindRow(int64_t key) const {
  const uint64_t hash = HashKey(key);
  const Shard& shard = ShardAt(ShardOf(hash, shard_bits_));
  shard.mu.AssumeHeldShared();  // with all locks
  const RowRef ref = shard.index.Find(hash, key);
  return ref == kNoRow ? nullptr : shard.arena->Row(ref);
}

Status TableState::Read(KeySpan keys, const float* absent_row, float* out) const {
  const uint64_t moves = tier_ == nullptr ? 0 : tier_->moves.load();
  std::atomic<size_t> missed{0};
  {
    const Locks locks = LockAllShared();
    const kernels::RowCopier copy = format_.ChooseCopier(keys.size());
    const bool plain = GetGatherMode() == GatherMode::kHighPrecision;
    ReadView view;
    if (!plain) MakeReadView(shards_, shard_bits_, hot_, &view);
    WorkerPool::Get().RunRanges(keys.size(), kReadGrain, [&](size_t begin, size_t end) {
      const ReadResult read = plain
                                  ? ReadPlain(keys, begin, end, copy, absent_row, out)
                                  : ReadRange(view, keys, begin, end, copy, dim_,
                                              format_.embedding_bytes(), absent_row, out, nullptr);
      counters_.read_hits.fetch_add(static_cast<int64_t>(read.found), std::memory_order_relaxed);
      counters_.read_misses.fetch_add(static_cast<int64_t>(end - begin - read.found),
                                      std::memory_order_relaxed);
      counters_.hot_hits.fetch_add(static_cast<int64_t>(read.hot), std::memory_order_relaxed);
      if (hot_.enabled()) sampler_.Observe(end - begin, read.hot);
      missed.fetch_add(end - begin - read.found, std::memory_order_relaxed);
    });
  }
  RefreshHotRows(keys);
  if (tier_ == nullptr || missed == 0) return {};
  const size_t found = keys.size() - missed;
  size_t there = 0;
  MXREC_RETURN_IF_ERROR(ReadMissed(keys, moves, found, out, &there));
  const auto more = static_cast<int64_t>(there) - static_cast<int64_t>(found);
  counters_.read_hits += more;
  counters_.read_misses -= more;
  return {};
}

ReadResult TableState::ReadPlain(KeySpan keys, size_t begin, size_t end,
                                 const kernels::RowCopier& copy, const float* absent_row,
                                 float* out) const {
  size_t found = 0;
  for (size_t i = begin; i < end; ++i) {
    const float* row = FindRow(keys[i]);
    found += row != nullptr;
    copy(&row, 1, static_cast<size_t>(dim_), absent_row, out + i * static_cast<size_t>(dim_));
  }
  copy.Finish();
  return {.found = found};
}

void TableState::RefreshHotRows(KeySpan keys) const {
  if (!hot_.enabled()) return;
  try {
    RefreshHotRowsNow(keys);
  } catch (const std::bad_alloc&) {
    // The call whose keys these are has done its work; the hot rows stay as they are.
  }
}

void TableState::RefreshHotRowsNow(KeySpan keys) const {
  if (!sampler_.Sample(keys)) return;
  const std::optional<std::vector<int64_t>> candidates = sampler_.Candidates();
  if (!candidates.has_value()) return;
  std::vector<HotRows::Row> rows;
  rows.reserve(candidates->size());
  std::vector<std::unique_lock<SharedMutex>> locks;
  locks.reserve(shards_.size());
  for (const auto& shard : shards_) locks.emplace_back(shard->mu);
  for (const int64_t key : *candidates) {
    const uint64_t hash = HashKey(key);
    const uint32_t s = ShardOf(hash, shard_bits_);
    ShardAt(s).mu.AssumeHeld();  // `locks`
    const RowRef ref = ShardAt(s).index.Find(hash, key);
    if (ref != kNoRow) rows.push_back({key, s, ref, ShardAt(s).arena->Row(ref)});
  }
  hot_.Rebuild(rows);
}

void TableState::Contains(KeySpan keys, bool* out) const {
  const Locks locks = LockAllShared();
  WorkerPool::Get().RunRanges(keys.size(), kReadGrain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + kWindow < end) {
        const uint64_t ahead = HashKey(keys[i + kWindow]);
        const Shard& shard = ShardAt(ShardOf(ahead, shard_bits_));
        shard.mu.AssumeHeldShared();  // `locks`
        Prefetch(shard.index.HomeBucket(ahead));
      }
      const uint64_t hash = HashKey(keys[i]);
      const uint32_t s = ShardOf(hash, shard_bits_);
      ShardAt(s).mu.AssumeHeldShared();
      out[i] = HasRow(s, hash, keys[i]);
    }
  });
}

void TableState::FindInShard(const Shard& shard, KeyBatch* batch, uint32_t s) const {
  const size_t e = batch->unique_end(s);
  for (size_t u = batch->begin(s), ahead = u; u < e; ++u) {
    for (; ahead < std::min(e, u + kWindow); ++ahead) {
      Prefetch(shard.index.HomeBucket(batch->hash[ahead]));
    }
    const RowRef ref = shard.index.Find(batch->hash[u], batch->key[u]);
    batch->ref[u] = ref;
    if (ref != kNoRow) Prefetch(&shard.arena->Meta(ref));
  }
}

void TableState::Find(KeyBatch* batch) const {
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    batch->Deduplicate(s);
    const SharedLock lock(ShardAt(s).mu);
    FindInShard(ShardAt(s), batch, s);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      batch->address[u] = batch->ref[u] == kNoRow ? kNoAddress : AddressOf(s, batch->ref[u]);
    }
  });
  if (!ok) throw std::bad_alloc();
}

void TableState::Missing(KeySpan keys, uint64_t coefficient, std::vector<int64_t>* out) const {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  Find(batch.get());
  std::vector<std::pair<uint32_t, int64_t>> found;
  for (uint32_t s = 0; s < shards(); ++s) {
    const SharedLock lock(ShardAt(s).mu);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      if (batch->ref[u] != kNoRow || !WouldAdmit(ShardAt(s), *batch, u, coefficient)) continue;
      if (tier_ != nullptr && HasRow(s, batch->hash[u], batch->key[u])) continue;
      found.emplace_back(batch->first[u], batch->key[u]);
    }
  }
  std::sort(found.begin(), found.end());
  out->clear();
  out->reserve(found.size());
  for (const auto& [position, key] : found) out->push_back(key);
}

Status TableState::ReadAddresses(std::span<const int64_t> addresses, KeySpan keys,
                                 const float* absent_row, float* out) const {
  const uint64_t moves = tier_ == nullptr ? 0 : tier_->moves.load();
  Locks locks = LockAllShared();
  const auto dim = static_cast<size_t>(dim_);
  const size_t row_bytes = format_.embedding_bytes();
  const kernels::RowCopier copy = format_.ChooseCopier(keys.size());
  WorkerPool::Get().RunRanges(addresses.size(), kReadGrain, [&](size_t begin, size_t end) {
    std::array<const float*, kWindow> rows;
    for (size_t i = begin; i < end; i += kWindow) {
      const size_t m = std::min(kWindow, end - i);
      for (size_t j = 0; j < m; ++j) {
        const Address address = Address::Unpack(addresses[i + j], shard_bits_);
        ShardAt(address.shard).mu.AssumeHeldShared();  // `locks`
        const RowArena& arena = *ShardAt(address.shard).arena;
        if (addresses[i + j] >= 0 && address.slot < arena.slots()) {
          Prefetch(&arena.Meta(address.slot));
          PrefetchRange(arena.Row(address.slot), row_bytes);
        }
      }
      for (size_t j = 0; j < m; ++j) {
        rows[j] = nullptr;
        if (addresses[i + j] >= 0) {
          const Address address = Address::Unpack(addresses[i + j], shard_bits_);
          const RowRef ref = RowAt(address);
          ShardAt(address.shard).mu.AssumeHeldShared();
          if (ref != kNoRow) rows[j] = ShardAt(address.shard).arena->Row(ref);
        }
        if (rows[j] == nullptr) rows[j] = FindRow(keys[i + j]);
      }
      copy(rows.data(), m, dim, absent_row, out + i * dim);
    }
    copy.Finish();
  });
  if (tier_ == nullptr) return {};
  locks.clear();
  size_t there = 0;
  return ReadMissed(keys, moves, 0, out, &there);
}

}  // namespace mxrec
