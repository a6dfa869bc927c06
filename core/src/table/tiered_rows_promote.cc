// TieredRows: rows that come from SSD into memory.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#include "table/tiered_rows.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kWindow = 32;  // keys in flight: covers the latency of memory

enum Where : uint8_t { kInMemory, kOnSsd, kNowhere };

}  // namespace

struct TieredRows::Arrival {
  uint32_t shard;
  int64_t key;

  auto operator<=>(const Arrival&) const = default;
};

TieredRows::Locks TieredRows::LockAllShared() const {
  Locks locks;
  locks.reserve(shards_.size());
  for (const auto& shard : shards_) locks.emplace_back(shard->mu);
  return locks;
}

std::vector<std::unique_lock<SharedMutex>> TieredRows::LockAllExclusive() const {
  std::vector<std::unique_lock<SharedMutex>> locks;
  locks.reserve(shards_.size());
  for (const auto& shard : shards_) locks.emplace_back(shard->mu);
  return locks;
}

bool TieredRows::Reserve(int64_t rows) {
  if (tier_ != nullptr) rows = std::min(rows, tier_->memory_rows());
  for (const auto& shard : shards_) {
    const ExclusiveLock lock(shard->mu);
    if (!shard->index.Reserve(static_cast<uint64_t>(rows) >> shard_bits_)) return false;
  }
  return true;
}

RowRef TieredRows::NewRow(Shard* shard, uint64_t hash, int64_t key) {
  const RowRef slot = shard->arena->Allocate();
  if (slot == RowArena::kNoSlot) return kNoRow;
  if (shard->index.Insert(hash, key, slot)) return slot;
  shard->arena->Free(slot, key);
  return kNoRow;
}

RowRef TieredRows::RowAt(const Address& address) const {
  if (address.tag != tag_) return kNoRow;
  const Shard& shard = ShardAt(address.shard);
  shard.mu.AssumeHeldShared();  // with all locks
  const RowArena& arena = *shard.arena;
  if (address.slot >= arena.slots() || (address.generation & 1) == 0) return kNoRow;
  return arena.Meta(address.slot).generation == address.generation ? address.slot : kNoRow;
}

Status TieredRows::BringIn(KeySpan keys, std::span<const int64_t> addresses) {
  if (tier_ == nullptr || keys.empty()) return {};
  tier_->batch.store(batches_, std::memory_order_relaxed);
  const int64_t room = tier_->memory_rows() - memory_rows();
  if (tier_->rows() == 0 && room >= static_cast<int64_t>(keys.size())) return {};
  std::vector<uint8_t> where(keys.size());
  {
    const Locks locks = LockAllShared();
    WorkerPool::Get().RunRanges(keys.size(), kParallelKeys, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        if (i + kWindow < end) {
          const uint64_t ahead = HashKey(keys[i + kWindow]);
          const uint32_t s = ShardOf(ahead, shard_bits_);
          ShardAt(s).mu.AssumeHeldShared();  // `locks`
          Prefetch(ShardAt(s).index.HomeBucket(ahead));
          Prefetch(SpilledOf(s).HomeBucket(ahead));
        }
        const uint64_t hash = HashKey(keys[i]);
        const uint32_t s = ShardOf(hash, shard_bits_);
        ShardAt(s).mu.AssumeHeldShared();
        if (ShardAt(s).index.Find(hash, keys[i]) != kNoRow) {
          where[i] = kInMemory;
        } else {
          where[i] = FindSpilled(s, hash, keys[i]) != nullptr ? kOnSsd : kNowhere;
        }
      }
    });
  }
  std::vector<Arrival> arrivals;
  std::vector<int64_t> absent;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (where[i] == kOnSsd) arrivals.push_back({ShardOf(HashKey(keys[i]), shard_bits_), keys[i]});
    if (where[i] == kNowhere && !padding_.contains(keys[i])) absent.push_back(keys[i]);
  }
  // Whatever is the matter with the disks, rows in memory can be used.
  if (arrivals.empty() && absent.empty()) return {};
  std::ranges::sort(arrivals);
  arrivals.erase(std::unique(arrivals.begin(), arrivals.end()), arrivals.end());
  if (static_cast<int64_t>(arrivals.size() + absent.size()) > room) {
    std::ranges::sort(absent);
    absent.erase(std::unique(absent.begin(), absent.end()), absent.end());
    const int64_t lacking = static_cast<int64_t>(arrivals.size() + absent.size()) - room;
    if (lacking > 0) {
      const KeptRows kept = Keep(keys, addresses);
      int64_t spilled = 0;
      constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
      MXREC_RETURN_IF_ERROR(Spill(static_cast<size_t>(lacking), &kept, kAll, &spilled));
    }
  }
  return Promote(arrivals);
}

TieredRows::KeptRows TieredRows::Keep(KeySpan keys, std::span<const int64_t> addresses) const {
  KeptRows kept(shards());
  const Locks locks = LockAllShared();
  for (uint32_t s = 0; s < shards(); ++s) {
    ShardAt(s).mu.AssumeHeldShared();  // `locks`
    kept[s].resize(ShardAt(s).arena->slots());
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t hash = HashKey(keys[i]);
    const uint32_t s = ShardOf(hash, shard_bits_);
    ShardAt(s).mu.AssumeHeldShared();
    if (const RowRef ref = ShardAt(s).index.Find(hash, keys[i]); ref != kNoRow) kept[s][ref] = 1;
  }
  for (const int64_t each : addresses) {
    if (each < 0) continue;
    const Address address = Address::Unpack(each, shard_bits_);
    if (const RowRef ref = RowAt(address); ref != kNoRow) kept[address.shard][ref] = 1;
  }
  return kept;
}

Status TieredRows::Promote(std::span<const Arrival> arrivals) {
  if (arrivals.empty()) return {};
  const size_t n = arrivals.size();
  const size_t row_bytes = stored_bytes();
  const std::unique_ptr<char[]> rows(new char[n * row_bytes]);
  std::vector<ssd::RecordOut> reads;
  reads.reserve(n);
  {
    const ssd::SsdLog::Guard guard = tier_->log().Enter();
    std::vector<StagedRows::Out> wanted(n);
    for (size_t i = 0; i < n; ++i) wanted[i] = {arrivals[i].key, rows.get() + i * row_bytes};
    std::vector<uint8_t> copied(n);
    tier_->staged().Copy(wanted, copied);
    for (size_t i = 0; i < n; ++i) {
      if (copied[i] != 0) continue;
      const auto [s, key] = arrivals[i];
      const SharedLock lock(ShardAt(s).mu);  // compaction may be moving the record
      reads.push_back({.key = key,
                       .location = FindSpilled(s, HashKey(key), key)->location,
                       .row = wanted[i].row});
    }
    MXREC_RETURN_IF_ERROR(tier_->Read(guard, reads));
  }
  std::atomic<int64_t> promoted{0};
  const bool ok = ForEachShard(n, [&](uint32_t s) {
    const auto [begin, end] = std::ranges::equal_range(arrivals, s, {}, &Arrival::shard);
    if (begin == end) return;
    promoted +=
        PromoteInShard(s, {begin, end},
                       rows.get() + (begin - arrivals.begin()) * static_cast<ptrdiff_t>(row_bytes));
  });
  tier_->promoted += promoted;
  tier_->promoted_staged += static_cast<int64_t>(n - reads.size());
  if (ok && promoted == static_cast<int64_t>(n)) return {};
  return ResourceExhausted("out of memory while bringing " + std::to_string(n) +
                           " rows of table '" + name_ +
                           "' from SSD into memory; lower memory_rows, or use smaller batches");
}

// Returns how many have come; all, unless memory ran out.
int64_t TieredRows::PromoteInShard(uint32_t s, std::span<const Arrival> arrivals,
                                   const char* rows) {
  Shard& shard = ShardAt(s);
  TierShard& tier = tier_->shard(s);
  std::vector<uint32_t> freed;
  std::vector<int64_t> here;
  freed.reserve(arrivals.size());
  here.reserve(arrivals.size());
  const ExclusiveLock lock(shard.mu);
  SameLock(shard.mu, *tier.mu);
  shard.reprieved.reserve(shard.reprieved.size() + arrivals.size());
  for (size_t i = 0; i < arrivals.size(); ++i) {
    if (i + kWindow < arrivals.size()) {
      const uint64_t ahead = HashKey(arrivals[i + kWindow].key);
      Prefetch(tier.spilled.HomeBucket(ahead));
      Prefetch(shard.index.HomeBucket(ahead));
    }
    const int64_t key = arrivals[i].key;
    const uint64_t hash = HashKey(key);
    const SpilledRow from = *tier.spilled.Find(hash, key);
    const RowRef ref = NewRow(&shard, hash, key);
    if (ref == kNoRow) break;
    if (sweep_.by_age && from.reprieve == sweep_.number) {
      try {
        shard.reprieved.insert(ref);
      } catch (const std::bad_alloc&) {
        shard.index.Erase(hash, key);
        shard.arena->Free(ref, key);
        break;
      }
    }
    float* const row = shard.arena->Row(ref);
    std::memcpy(row, rows + i * stored_bytes(), stored_bytes());
    RowMeta& meta = shard.arena->Meta(ref);
    meta.frequency = from.frequency;
    meta.last_time = from.last_time;
    meta.stamp = from.stamp;
    if (tracker_.active()) {
      tracker_.Promote(s, key, ref, &meta, from.reprieve, row);
    }
    tier.hand.Forget(ref);
    tier.spilled.Erase(hash, key);
    here.push_back(key);
    freed.push_back(from.location);
  }
  tier_->staged().Drop(here);
  tier_->moves.fetch_add(freed.size(), std::memory_order_release);
  tier_->AddRows(-static_cast<int64_t>(freed.size()));
  tier_->log().Free(freed);
  return static_cast<int64_t>(freed.size());
}

void TieredRows::NoteGivenAddresses() {
  steps_ += applied_ ? 1 : 0;
  applied_ = false;
  given_at_ = batches_;
}

Status TieredRows::BringInAddresses(std::span<const int64_t> addresses,
                                    std::vector<int64_t>* renewed) {
  renewed->clear();
  applied_ = true;
  if (tier_ == nullptr) return {};
  std::vector<int64_t> keys;
  std::vector<size_t> positions;  // in keys, of those that were on the trail
  std::vector<size_t> places;     // of the same, in addresses
  {
    const Locks locks = LockAllShared();
    for (size_t i = 0; i < addresses.size(); ++i) {
      if (i + kWindow < addresses.size() && addresses[i + kWindow] >= 0) {
        const Address ahead = Address::Unpack(addresses[i + kWindow], shard_bits_);
        const Shard& shard = ShardAt(ahead.shard);
        shard.mu.AssumeHeldShared();  // `locks`
        const RowArena& arena = *shard.arena;
        if (ahead.slot < arena.slots()) Prefetch(&arena.Meta(ahead.slot));
      }
      if (addresses[i] < 0) continue;
      const Address address = Address::Unpack(addresses[i], shard_bits_);
      if (address.tag != tag_ || RowAt(address) != kNoRow) continue;
      const Shard& shard = ShardAt(address.shard);
      const TierShard& tier = tier_->shard(address.shard);
      shard.mu.AssumeHeldShared();
      SameLockShared(shard.mu, *tier.mu);
      const RowArena& arena = *shard.arena;
      int64_t key;
      if (tier.trail.Find(address.slot, address.generation, &key)) {
        positions.push_back(keys.size());
        keys.push_back(key);
        places.push_back(i);
      } else if (address.slot < arena.slots() && (address.generation & 1) == 1 &&
                 arena.DepartedKey(address.slot, address.generation, &key) &&
                 (shard.index.Find(HashKey(key), key) != kNoRow ||
                  tier.spilled.Find(HashKey(key), key) != nullptr)) {
        // It left long ago, or has moved. Who looks for it by its key is to find it, so it is not
        // to make room for the others.
        keys.push_back(key);
      }
    }
  }
  if (keys.empty()) return {};
  MXREC_RETURN_IF_ERROR(BringIn(keys, addresses));
  renewed->assign(addresses.begin(), addresses.end());
  const Locks locks = LockAllShared();
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t key = keys[positions[i]];
    const uint64_t hash = HashKey(key);
    const uint32_t s = ShardOf(hash, shard_bits_);
    ShardAt(s).mu.AssumeHeldShared();
    const RowRef ref = ShardAt(s).index.Find(hash, key);
    // One that was erased since: its address is as stale as that of any such row.
    if (ref != kNoRow) (*renewed)[places[i]] = AddressOf(s, ref);
  }
  return {};
}

}  // namespace mxrec
