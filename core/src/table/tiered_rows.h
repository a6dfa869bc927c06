// TieredRows: the rows of a table in two tiers, memory and SSD (tier/ssd_tier.h), and how they move
// from one to the other. TableState, which is built on it, works on rows in memory: before a change
// BringIn has those of its keys come. Without an SSD tier there is nothing to do.
//
// Thread safety: as TableState. What moves rows is part of a change; functions "of a shard" are
// called with its lock, those that take keys or addresses of any shard with all locks, which the
// analysis does not follow.
#pragma once

#include <cstdint>
#include <functional>
#include <shared_mutex>
#include <span>
#include <utility>
#include <vector>

#include "arena/address.h"
#include "mxrec/table_types.h"
#include "table/table_data.h"
#include "util/worker_pool.h"

namespace mxrec {

// Below this many keys a batch is handled by the calling thread alone.
inline constexpr size_t kParallelKeys = 2048;

struct TieredRows : TableData {
  using TableData::TableData;
  using Locks = std::vector<std::shared_lock<SharedMutex>>;

  uint32_t shards() const { return static_cast<uint32_t>(shards_.size()); }
  // By which the analysis knows a shard and its lock: the brackets of a vector that is const are
  // others to it.
  Shard& ShardAt(uint32_t s) const { return *shards_[s]; }
  int64_t rows() const { return rows_.load(std::memory_order_relaxed); }
  int64_t memory_rows() const { return rows() - (tier_ == nullptr ? 0 : tier_->rows()); }
  size_t stored_bytes() const { return format_.stored_floats(slots_) * sizeof(float); }
  // Runs task(s) for every shard, in parallel where the batch is worth it. False: out of memory in
  // some task.
  template <class Task>
  bool ForEachShard(size_t batch_size, Task&& task) const;
  Locks LockAllShared() const;
  std::vector<std::unique_lock<SharedMutex>> LockAllExclusive() const;
  // Room in the indexes for so many rows to come; as KeyIndex::Reserve.
  bool Reserve(int64_t rows);

  // --- Of a row.
  // Its embedding, [dim], as floats and back; every other file goes through these two.
  void LoadEmbedding(const float* row, float* out) const { format_.Load(row, out); }
  void StoreEmbedding(const float* values, float* row) const { format_.Store(values, row); }
  // The optimizer's slots.
  float* Slots(float* row) const { return row + format_.slots_at(); }
  const float* Slots(const float* row) const { return row + format_.slots_at(); }

  // --- Of a shard.
  // An index entry and a row for an absent key, contents undefined; kNoRow: no memory.
  static RowRef NewRow(Shard* shard, uint64_t hash, int64_t key) MXREC_REQUIRES(shard->mu);
  RowRef RowAt(const Address& address) const;  // kNoRow: not a live row
  int64_t AddressOf(uint32_t s, RowRef ref) const MXREC_REQUIRES_SHARED(ShardAt(s).mu) {
    return Address::Pack(tag_, ShardAt(s).arena->Meta(ref).generation, s, ref, shard_bits_);
  }
  // Null: not on SSD.
  SpilledRow* FindSpilled(uint32_t s, uint64_t hash, int64_t key) const
      MXREC_REQUIRES_SHARED(ShardAt(s).mu) {
    return tier_ == nullptr ? nullptr : SpilledOf(s).Find(hash, key);
  }
  // There is an SSD tier.
  SpilledRows& SpilledOf(uint32_t s) const MXREC_REQUIRES_SHARED(ShardAt(s).mu) {
    TierShard& tier = tier_->shard(s);
    SameLockShared(ShardAt(s).mu, *tier.mu);
    return tier.spilled;
  }
  // A row has been erased: addresses from when it was in memory earlier do not mean its successor.
  void ForgetAddresses(uint32_t s, int64_t key) MXREC_REQUIRES(ShardAt(s).mu) {
    if (tier_ == nullptr) return;
    TierShard& tier = tier_->shard(s);
    SameLock(ShardAt(s).mu, *tier.mu);
    tier.trail.Gone(key);
  }
  bool HasRow(uint32_t s, uint64_t hash, int64_t key) const MXREC_REQUIRES_SHARED(ShardAt(s).mu) {
    return ShardAt(s).index.Find(hash, key) != kNoRow || FindSpilled(s, hash, key) != nullptr;
  }
  // A key of a shard with its row, in whichever tier.
  struct Entry {
    int64_t key;
    RowRef ref;           // kNoRow: on SSD
    SpilledRow* spilled;  // null: in memory
  };
  // KeyIndex::VisitSegment for both tiers, to where the segment of either index ends. Keys keep
  // their positions when their rows move. visit(Entry).
  template <class Visit>
  uint64_t VisitRows(uint32_t s, uint64_t position, Visit&& visit) const
      MXREC_REQUIRES_SHARED(ShardAt(s).mu);

  // --- Into memory (tiered_rows_promote.cc).
  // The rows of these keys are in memory from here on, and where others can leave it, there is room
  // for new ones; rows of `addresses` stay as well. The table's contents are the same.
  Status BringIn(KeySpan keys, std::span<const int64_t> addresses = {});
  // The same for rows by address. *renewed: the addresses that they have now; empty: the same.
  Status BringInAddresses(std::span<const int64_t> addresses, std::vector<int64_t>* renewed);
  struct Arrival;
  // A lookup is going to give addresses.
  void NoteGivenAddresses();
  Status Promote(std::span<const Arrival> arrivals);
  int64_t PromoteInShard(uint32_t s, std::span<const Arrival> arrivals, const char* rows);

  // Whether the embedding's norm is.
  bool IsBelow(float norm, const float* row) const;

  // --- Out of memory (tiered_rows_spill.cc).
  // By shard, by slot: not 0 for rows that stay.
  using KeptRows = std::vector<std::vector<uint8_t>>;
  KeptRows Keep(KeySpan keys, std::span<const int64_t> addresses) const;
  struct Victim {
    int64_t key;
    RowRef ref;
    uint32_t shard;
    uint32_t last_time;
    uint32_t score;
  };
  // Up to `want` cold rows, found by `looks` at rows.
  std::vector<Victim> ChooseCold(size_t want, const KeptRows* kept, int64_t looks);
  Status Spill(size_t want, const KeptRows* kept, int64_t looks, int64_t* spilled);
  int64_t SpillInShard(uint32_t s, std::span<const Victim> victims,
                       std::span<const uint32_t> locations);
  // Rows should leave memory before it is full. SpillSome: a few of them; false: for now none will.
  bool WantsSpill() const;
  bool WantsMoreRoom() const;  // until so many are free that WantsSpill is false for a while
  Result<bool> SpillSome();

  // --- Reading without moving (tiered_rows_read.cc).
  // Entries to be read from SSD.
  struct Wanted {
    int64_t key;
    uint32_t location;
  };
  // The same with what the index knows of them.
  struct SpilledBatch {
    std::vector<Wanted> wanted;
    std::vector<RowMeta> metas;
    void Add(int64_t key, const SpilledRow& row) {
      wanted.push_back({key, row.location});
      metas.push_back(row.meta());
    }
  };
  // Reads them, some at a time: those from `begin` on go to use(begin, reads), whose rows of
  // stored_bytes are there where reads[i].ok. An error is the first one.
  Status ReadPieces(const ssd::SsdLog::Guard& guard, std::span<const Wanted> wanted,
                    const std::function<void(size_t, std::span<const ssd::RecordOut>)>& use) const;
  // The values of the i-th of them go to use(i, row). An error is the first one; it keeps back the
  // values that could not be read, no others.
  Status ReadSpilled(const ssd::SsdLog::Guard& guard, std::span<const Wanted> wanted,
                     const std::function<void(size_t, const float*)>& use) const;
  // The keys of a read that were not in memory when it came to them; out: [n, dim].
  // moves: SsdTier::moves before that read, which found so many. *there: how many have a row.
  Status ReadMissed(KeySpan keys, uint64_t moves, size_t found, float* out, size_t* there) const;
  // Reads rows ahead of the batch with these keys. Beside any other call. A read that fails is left
  // to the batch.
  void Stage(KeySpan keys) const;
  void PutStaged(std::span<const Wanted> wanted, std::span<const ssd::RecordOut> reads) const;

  // --- On SSD (tiered_rows_change.cc). Of a shard whose lock is held exclusively.
  void RemoveSpilled(uint32_t s, std::span<const Entry> entries) MXREC_REQUIRES(ShardAt(s).mu);
  // Gives the rows other slots, of `floats` each; null: none to be set. All or nothing.
  Status RelayoutSpilled(size_t floats, const Optimizer* optimizer);
};

template <class Visit>
uint64_t TieredRows::VisitRows(uint32_t s, uint64_t position, Visit&& visit) const {
  const Shard& shard = ShardAt(s);
  SameLockShared(ShardAt(s).mu, shard.mu);
  const auto in_memory = [&](int64_t key, RowRef ref) { visit(Entry{key, ref, nullptr}); };
  if (tier_ == nullptr || SpilledOf(s).size() == 0) {
    return shard.index.VisitSegment(position, in_memory);
  }
  const SpilledRows& spilled = SpilledOf(s);
  const uint64_t end = std::min(shard.index.SegmentEnd(position), spilled.SegmentEnd(position));
  const auto before = [&](int64_t key) { return PositionOf(HashKey(key), shard_bits_) < end; };
  shard.index.VisitSegment(position, [&](int64_t key, RowRef ref) {
    if (before(key)) in_memory(key, ref);
  });
  spilled.VisitSegment(position, [&](int64_t key, SpilledRow* row) {
    if (before(key)) visit(Entry{key, kNoRow, row});
  });
  return end;
}

template <class Task>
bool TieredRows::ForEachShard(size_t batch_size, Task&& task) const {
  std::atomic<bool> ok{true};
  const auto guarded = [&](size_t s) {
    try {
      task(static_cast<uint32_t>(s));
    } catch (const std::bad_alloc&) {
      ok = false;
    }
  };
  if (batch_size < kParallelKeys) {
    for (size_t s = 0; s < shards_.size(); ++s) guarded(s);
  } else {
    WorkerPool::Get().Run(shards_.size(), guarded);
  }
  return ok;
}

}  // namespace mxrec
