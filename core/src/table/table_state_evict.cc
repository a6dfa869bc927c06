// TableState: removing what is too old, too rare or too small, a bounded part at a time.
#include <algorithm>
#include <array>
#include <iterator>
#include <mutex>
#include <new>

#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 32;
constexpr int64_t kSegmentRows = KeyIndex::kSegmentEntries * 5 / 8;  // on average
constexpr int64_t kMoveLooks = 8;  // freeing or moving a row costs as much as looking at so many

using Phase = EvictionSweep::Phase;

bool WasTrained(const RowMeta& meta) { return meta.frequency != 0 || meta.last_time != 0; }

void PrefetchMeta(const Shard& shard, const TieredRows::Entry& entry)
    MXREC_REQUIRES_SHARED(shard.mu) {
  if (entry.spilled == nullptr) {
    Prefetch(&shard.arena->Meta(entry.ref));
  } else {
    Prefetch(entry.spilled);
  }
}

std::vector<TieredRows::Entry> OnSsd(std::span<const TieredRows::Entry> entries) {
  std::vector<TieredRows::Entry> spilled;
  std::ranges::copy_if(entries, std::back_inserter(spilled),
                       [](const TieredRows::Entry& entry) { return entry.spilled != nullptr; });
  return spilled;
}

void PrefetchRow(const Shard& shard, const TieredRows::Entry& entry)
    MXREC_REQUIRES_SHARED(shard.mu) {
  if (entry.spilled == nullptr) Prefetch(shard.arena->Row(entry.ref));
}

}  // namespace

// --- Times --------------------------------------------------------------------------------------

Status TableState::CheckTimes(TimeSource source, bool by_age) const {
  if (!by_age || time_source_ == TimeSource::kNone || time_source_ == source) return {};
  const bool given = source == TimeSource::kTimestamps;
  return InvalidArgument(
      "table '" + name_ + "' evicts by age, and its batches so far had " +
      (given ? "no timestamps, but this one has some" : "timestamps, but this one has none") +
      ": ages would be meaningless. Give timestamps with every training lookup of the table, or "
      "with none (then the wall clock counts)");
}

void TableState::NoteTimes(TimeSource source, uint32_t latest) {
  time_source_ = source;
  latest_time_ = std::max(latest_time_.load(), latest);
}

// --- Trigger ------------------------------------------------------------------------------------

void TableState::BeginSweep(const EvictionOptions& rules, int64_t now) {
  const int64_t cutoff = std::max<int64_t>(now, latest_time_) - rules.max_age;
  const bool by_age = rules.max_age != kOff && cutoff >= 0;
  const auto limit = static_cast<uint32_t>(std::clamp<int64_t>(cutoff, 0, 0xFFFFFFFF));
  const auto everything = std::numeric_limits<int64_t>::max();
  // What an earlier trigger declared gone must not come back.
  if (sweeping() && sweep_.by_age && (!by_age || limit < sweep_.cutoff)) {
    Sweep(everything, everything, false);
  }
  std::vector<std::unique_lock<SharedMutex>> locks;
  for (const auto& shard : shards_) locks.emplace_back(shard->mu);
  if (!by_age && rules.max_rows == 0 && rules.min_l2 == 0.0f) return;
  for (const auto& shard : shards_) {
    shard->mu.AssumeHeld();  // `locks`
    shard->arena->EndDrain();
    shard->reprieved.clear();
    if (shard->counters != nullptr) shard->counters->EndSweep();
  }
  if (++sweep_.number == 0) sweep_.number = 1;
  sweep_.by_age = by_age;
  sweep_.cutoff = limit;
  sweep_.min_l2 = rules.min_l2;
  if (tier_ != nullptr && rules.min_l2 > 0.0f) {
    // Marks of more are good for less. Of less they are not: this sweep makes them anew.
    tier_->known_norm = std::min(tier_->known_norm, rules.min_l2);
    tier_->marked_norm = rules.min_l2;
  }
  sweep_.max_rows = rules.max_rows;
  sweep_.least_frequency = 0;
  sweep_.frequencies.assign(shards(), {});
  sweep_.ties.assign(shards(), 0);
  sweep_.phase = rules.max_rows > 0 ? Phase::kMeasure : Phase::kRows;
  sweep_.laps.resize(shards());
  for (EvictionSweep::Lap& lap : sweep_.laps) lap.Begin();
  sweeping_.store(true, std::memory_order_release);
}

bool TableState::Expired(uint32_t s, RowRef ref) const {
  if (!sweep_.by_age) return false;
  const RowMeta& meta = ShardAt(s).arena->Meta(ref);
  return meta.last_time <= sweep_.cutoff && WasTrained(meta) && !ShardAt(s).reprieved.contains(ref);
}

bool TableState::Expired(const SpilledRow& row) const {
  if (!sweep_.by_age || row.last_time > sweep_.cutoff) return false;
  return (row.frequency != 0 || row.last_time != 0) && row.reprieve != sweep_.number;
}

// --- Sweep --------------------------------------------------------------------------------------

uint32_t TableState::FrequencyOf(uint32_t s, const Entry& entry) const {
  return entry.spilled == nullptr ? ShardAt(s).arena->Meta(entry.ref).frequency
                                  : entry.spilled->frequency;
}

void TableState::RemoveRow(uint32_t s, int64_t key, RowRef ref) {
  Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  shard.index.Erase(HashKey(key), key);
  hot_.Drop(s, ref);
  if (tracker_.active()) {
    tracker_.Remove(s, key, ref, shard.arena->Meta(ref), shard.arena->Row(ref));
  }
  shard.arena->Free(ref, key);
  ForgetAddresses(s, key);
  if (!shard.reprieved.empty()) shard.reprieved.erase(ref);
}

int64_t TableState::MeasureSegment(uint32_t s, EvictionSweep::Lap* lap) {
  std::vector<Entry> entries;
  lap->MoveTo(VisitRows(s, lap->position, [&](const Entry& entry) { entries.push_back(entry); }));
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i + kAhead < entries.size()) PrefetchMeta(ShardAt(s), entries[i + kAhead]);
    if (!Expired(s, entries[i])) ++sweep_.frequencies[s][FrequencyOf(s, entries[i])];
  }
  return static_cast<int64_t>(entries.size());
}

// Fixes the frequency below which rows go, so that max_rows are left.
void TableState::ChooseLeastFrequency() {
  std::map<uint32_t, int64_t> all;
  int64_t live = 0;
  for (const auto& frequencies : sweep_.frequencies) {
    for (const auto& [frequency, rows] : frequencies) {
      all[frequency] += rows;
      live += rows;
    }
  }
  int64_t excess = live - sweep_.max_rows;
  if (excess > 0) {
    auto least = all.begin();
    for (; excess > least->second; ++least) excess -= least->second;
    sweep_.least_frequency = least->first;
    for (uint32_t s = 0; s < shards(); ++s) {
      const auto found = sweep_.frequencies[s].find(least->first);
      const int64_t here = found == sweep_.frequencies[s].end() ? 0 : found->second;
      sweep_.ties[s] = std::min(here, excess);
      excess -= sweep_.ties[s];
    }
  }
  sweep_.frequencies.assign(shards(), {});
}

int64_t TableState::SweepRows(uint32_t s, int64_t most, EvictionSweep::Lap* lap, int64_t* freed) {
  Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  std::vector<Entry> entries;
  const uint64_t next =
      VisitRows(s, lap->position, [&](const Entry& entry) { entries.push_back(entry); });
  std::vector<Entry> old, rare, tied, others;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i + kAhead < entries.size()) PrefetchMeta(shard, entries[i + kAhead]);
    const uint32_t frequency = FrequencyOf(s, entries[i]);
    if (Expired(s, entries[i])) {
      old.push_back(entries[i]);
    } else if (frequency < sweep_.least_frequency) {
      rare.push_back(entries[i]);
    } else if (frequency == sweep_.least_frequency && sweep_.ties[s] > 0) {
      tied.push_back(entries[i]);
    } else if (sweep_.min_l2 > 0.0f) {
      others.push_back(entries[i]);
    }
  }
  const auto by_hash = [](const Entry& entry) { return HashKey(entry.key); };
  std::ranges::sort(tied, {}, by_hash);
  const auto take = std::min<size_t>(tied.size(), static_cast<size_t>(sweep_.ties[s]));
  if (sweep_.min_l2 > 0.0f) {
    others.insert(others.end(), tied.begin() + static_cast<ptrdiff_t>(take), tied.end());
  }
  tied.resize(take);
  std::vector<Entry> small = Below(s, others);

  int64_t here = 0;
  const auto remove = [&](std::vector<Entry>& rows, std::atomic<int64_t>* counter) MXREC_REQUIRES(
                          ShardAt(s).mu, shard.mu) {
    const auto removed = std::min<int64_t>(static_cast<int64_t>(rows.size()), most - here);
    // Which rows a budget takes does not depend on the tiers that they are in.
    if (removed < static_cast<int64_t>(rows.size())) std::ranges::sort(rows, {}, by_hash);
    const std::span<const Entry> going(rows.data(), static_cast<size_t>(removed));
    RemoveSpilled(s, OnSsd(going));  // first: it may throw
    for (size_t i = 0; i < going.size(); ++i) {
      if (i + kAhead < rows.size()) PrefetchRow(shard, rows[i + kAhead]);
      if (going[i].spilled == nullptr) RemoveRow(s, going[i].key, going[i].ref);
    }
    here += removed;
    rows_ -= removed;
    *freed += removed;
    *counter += removed;
    return removed;
  };
  remove(old, &counters_.evicted_by_age);
  remove(rare, &counters_.evicted_by_rows);
  sweep_.ties[s] -= remove(tied, &counters_.evicted_by_rows);
  remove(small, &counters_.evicted_by_l2);
  if (here == static_cast<int64_t>(old.size() + rare.size() + tied.size() + small.size())) {
    lap->MoveTo(next);
  }
  return static_cast<int64_t>(entries.size()) + kMoveLooks * here;
}

int64_t TableState::DrainSegment(uint32_t s, int64_t most, EvictionSweep::Lap* lap,
                                 int64_t* moved) {
  Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  RowArena& arena = *shard.arena;
  std::vector<Entry> entries;
  int64_t looks = 0;
  const uint64_t next = shard.index.VisitSegment(lap->position, [&](int64_t key, RowRef ref) {
    ++looks;
    if (arena.InDrainingSlab(ref)) entries.push_back({key, ref, nullptr});
  });
  const size_t n = std::min<size_t>(entries.size(), static_cast<size_t>(most));
  for (size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) {
      PrefetchRange(arena.Row(entries[i + kAhead].ref), format_.embedding_bytes());
      Prefetch(&arena.Meta(entries[i + kAhead].ref));
      Prefetch(shard.index.HomeBucket(HashKey(entries[i + kAhead].key)));
    }
    const auto [key, ref, spilled] = entries[i];
    const RowRef to = arena.Move(ref, key);
    if (to == RowArena::kNoSlot) {
      lap->left = 0;  // no memory to move into: rows stay where they are
      return looks;
    }
    shard.index.Replace(HashKey(key), key, to);
    if (tracker_.active()) tracker_.Move(s, ref, to, arena.Meta(to));
    hot_.Drop(s, ref);
  }
  *moved += static_cast<int64_t>(n);
  if (n == entries.size()) lap->MoveTo(next);
  return looks + kMoveLooks * static_cast<int64_t>(n);
}

// A segment's worth of the current phase. Returns what it has looked at.
int64_t TableState::SweepSegment(uint32_t s, int64_t most, int64_t* freed, int64_t* moved) {
  Shard& shard = ShardAt(s);
  EvictionSweep::Lap& lap = sweep_.laps[s];
  const ExclusiveLock lock(shard.mu);
  SameLock(shard.mu, ShardAt(s).mu);
  switch (sweep_.phase) {
    case Phase::kMeasure:
      return MeasureSegment(s, &lap);
    case Phase::kRows:
      return SweepRows(s, most, &lap, freed);
    case Phase::kCounts: {
      uint64_t position = lap.position;
      std::vector<int64_t> gone;
      const int64_t looks =
          shard.counters->ForgetOld(sweep_.cutoff, &position, tracker_.active() ? &gone : nullptr);
      for (const int64_t each : gone) tracker_.Forget(s, each);
      lap.MoveTo(position);
      return looks;
    }
    case Phase::kDrain:
      return DrainSegment(s, most, &lap, moved);
  }
  return 0;
}

// Called when all laps of a phase are done.
void TableState::NextPhase(bool at_once) {
  if (sweep_.phase == Phase::kMeasure) {
    ChooseLeastFrequency();
    sweep_.phase = Phase::kRows;
    for (EvictionSweep::Lap& lap : sweep_.laps) lap.Begin();
    return;
  }
  if (sweep_.phase == Phase::kRows && sweep_.min_l2 > 0.0f && tier_ != nullptr) {
    tier_->known_norm = sweep_.min_l2;
  }
  if (sweep_.phase == Phase::kRows && sweep_.by_age && admission_.on()) {
    sweep_.phase = Phase::kCounts;
    for (EvictionSweep::Lap& lap : sweep_.laps) lap.Begin();
    return;
  }
  const bool drained = sweep_.phase == Phase::kDrain;
  if (!drained) {
    // What was too old is gone: from here on readers need not look.
    std::vector<std::unique_lock<SharedMutex>> locks;
    for (const auto& shard : shards_) locks.emplace_back(shard->mu);
    sweep_.by_age = false;
  }
  for (uint32_t s = 0; s < shards(); ++s) {
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    if (drained) {
      if (at_once) shard.arena->ReleaseIdle();
      shard.arena->EndDrain();
    } else {
      shard.reprieved.clear();
      if (shard.counters != nullptr) shard.counters->EndSweep();
      if (shard.arena->BeginDrain() > 0) sweep_.laps[s].Begin();
    }
  }
  if (drained) {
    sweeping_.store(false, std::memory_order_release);
    return;
  }
  sweep_.phase = Phase::kDrain;
}

int64_t TableState::Sweep(int64_t looks, int64_t most, bool at_once) {
  constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> freed{0}, moved{0}, looked{0};
  while (sweeping()) {
    std::vector<uint32_t> open;
    for (uint32_t i = 0; i < shards(); ++i) {
      const uint32_t s = (sweep_.next_shard + i) % shards();
      if (!sweep_.laps[s].done()) open.push_back(s);
    }
    if (open.empty()) {
      NextPhase(at_once);
      continue;
    }
    const int64_t looks_left = looks == kUnlimited ? kUnlimited : looks - looked;
    const int64_t most_left = most == kUnlimited ? kUnlimited : most - freed - moved;
    if (looks_left <= 0 || most_left <= 0) break;
    const bool whole_laps = looks == kUnlimited && most == kUnlimited;
    // A budget is counted row by row, so segments come one after the other. Otherwise so many at a
    // time as would be within the looks if all of their rows had to go.
    constexpr int64_t kSegmentLooks = kSegmentRows * (1 + kMoveLooks);
    int64_t segments = most != kUnlimited ? 1 : std::max<int64_t>(1, looks_left / kSegmentLooks);
    segments = std::min<int64_t>(segments, static_cast<int64_t>(open.size()));
    std::atomic<bool> out_of_memory{false};
    const auto sweep = [&](size_t i) {
      int64_t freed_here = 0, moved_here = 0, looked_here = 0;
      try {
        do {
          looked_here += SweepSegment(open[i], most_left, &freed_here, &moved_here);
        } while (whole_laps && !sweep_.laps[open[i]].done());
      } catch (const std::bad_alloc&) {
        out_of_memory = true;
      }
      freed += freed_here;
      moved += moved_here;
      looked += looked_here;
    };
    WorkerPool::Get().Run(static_cast<size_t>(segments), sweep);
    if (out_of_memory) throw std::bad_alloc();  // the next part of the sweep tries again
    sweep_.next_shard = (open[static_cast<size_t>(segments) - 1] + 1) % shards();
  }
  return freed;
}

// --- Callers during a sweep ---------------------------------------------------------------------

std::vector<int64_t> TableState::ExpiredOf(KeySpan keys) const {
  struct {
    Mutex mu;
    std::vector<int64_t> keys MXREC_GUARDED_BY(mu);
  } expired;
  std::atomic<bool> failed{false};
  const auto add = [&](int64_t key) {
    const MutexLock lock(expired.mu);
    try {
      expired.keys.push_back(key);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  };
  const Locks locks = LockAllShared();
  if (!sweep_.by_age) return {};
  WorkerPool::Get().RunRanges(keys.size(), kParallelKeys, [&](size_t begin, size_t end) {
    struct InFlight {
      uint64_t hash;
      RowRef ref;
    };
    constexpr size_t kRing = 2 * kAhead;
    std::array<InFlight, kRing> ring;
    const size_t n = end - begin;
    for (size_t i = 0; i < n + kRing; ++i) {
      if (i >= kRing) {
        const int64_t key = keys[begin + i - kRing];
        const InFlight& each = ring[i % kRing];
        const uint32_t s = ShardOf(each.hash, shard_bits_);
        ShardAt(s).mu.AssumeHeldShared();  // `locks`
        const KeyCounters* counters = ShardAt(s).counters.get();
        bool old;
        if (each.ref != kNoRow) {
          old = Expired(s, each.ref);
        } else if (const SpilledRow* row = FindSpilled(s, each.hash, key); row != nullptr) {
          old = Expired(*row);
        } else {
          old = counters != nullptr && counters->Old(each.hash, key, sweep_.cutoff);
        }
        if (old) add(key);
      }
      if (i < n) {
        InFlight& each = ring[i % kRing];
        each.hash = HashKey(keys[begin + i]);
        const Shard& shard = ShardAt(ShardOf(each.hash, shard_bits_));
        shard.mu.AssumeHeldShared();
        Prefetch(shard.index.HomeBucket(each.hash));
      }
      if (i >= kAhead && i < n + kAhead) {
        InFlight& each = ring[(i - kAhead) % kRing];
        const Shard& shard = ShardAt(ShardOf(each.hash, shard_bits_));
        shard.mu.AssumeHeldShared();
        each.ref = shard.index.Find(each.hash, keys[begin + i - kAhead]);
        if (each.ref != kNoRow) {
          Prefetch(&shard.arena->Meta(each.ref));
        } else if (shard.counters != nullptr) {
          shard.counters->Prefetch(each.hash);
        }
      }
    }
  });
  if (failed) throw std::bad_alloc();
  const MutexLock lock(expired.mu);
  return std::move(expired.keys);
}

void TableState::Reap(KeySpan all) {
  const std::vector<int64_t> keys = ExpiredOf(all);
  if (keys.empty()) return;
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  std::atomic<int64_t> reaped{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t b = batch->begin(s), e = batch->end(s);
    if (b == e) return;
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(s).mu);
    int64_t here = 0;
    std::vector<Entry> spilled;
    if (tier_ != nullptr) spilled.reserve(e - b);
    for (size_t j = b, ahead = b; j < e; ++j) {
      for (; ahead < std::min(e, j + kAhead); ++ahead) {
        batch->hash[ahead] = HashKey(batch->occurrence_key(ahead));
        Prefetch(shard.index.HomeBucket(batch->hash[ahead]));
      }
      const int64_t key = batch->occurrence_key(j);
      const RowRef ref = shard.index.Find(batch->hash[j], key);
      if (ref != kNoRow) {
        if (!Expired(s, ref)) continue;
        RemoveRow(s, key, ref);
        ++here;
      } else if (SpilledRow* row = FindSpilled(s, batch->hash[j], key); row != nullptr) {
        if (Expired(*row)) spilled.push_back({key, kNoRow, row});
      } else if (shard.counters != nullptr &&
                 shard.counters->Old(batch->hash[j], key, sweep_.cutoff)) {
        ForgetCount(s, batch->hash[j], key);
      }
    }
    std::ranges::sort(spilled, {}, &Entry::key);
    const auto again = std::ranges::unique(spilled, {}, &Entry::key);
    spilled.erase(again.begin(), again.end());
    reaped += here;
    RemoveSpilled(s, spilled);  // may throw
    reaped += static_cast<int64_t>(spilled.size());
  });
  rows_ -= reaped;
  counters_.evicted_by_age += reaped;
  if (!ok) throw std::bad_alloc();  // some are still there
}

bool TableState::MakeRoom(KeySpan keys) {
  constexpr int64_t kAtOnce = 65'536;
  if (!sweeping() || !MayExceedCapacity(keys.size())) return false;
  std::atomic<size_t> missing{0};
  {
    const Locks locks = LockAllShared();
    WorkerPool::Get().RunRanges(keys.size(), kParallelKeys, [&](size_t begin, size_t end) {
      size_t here = 0;
      for (size_t i = begin; i < end; ++i) {
        const uint64_t hash = HashKey(keys[i]);
        const uint32_t s = ShardOf(hash, shard_bits_);
        ShardAt(s).mu.AssumeHeldShared();  // `locks`
        here += !HasRow(s, hash, keys[i]);
      }
      missing += here;
    });
  }
  const bool swept = MayExceedCapacity(missing);
  while (sweeping() && MayExceedCapacity(missing)) {
    Sweep(kAtOnce, std::numeric_limits<int64_t>::max(), false);
  }
  return swept;
}

void TableState::Reprieve(KeySpan keys, uint32_t earliest) {
  if (!sweep_.by_age || earliest > sweep_.cutoff) return;
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t hash = HashKey(keys[i]);
    const uint32_t s = ShardOf(hash, shard_bits_);
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(s).mu);
    const RowRef ref = shard.index.Find(hash, keys[i]);
    if (ref != kNoRow) {
      if (Expired(s, ref)) shard.reprieved.insert(ref);
    } else if (shard.counters != nullptr && shard.counters->Old(hash, keys[i], sweep_.cutoff)) {
      shard.counters->Reprieve(hash, keys[i]);
    }
  }
}

std::vector<int64_t> TableState::MaskExpired(std::span<const int64_t> addresses,
                                             size_t* first) const {
  std::vector<int64_t> masked;
  const Locks locks = LockAllShared();
  if (!sweep_.by_age) return masked;
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (addresses[i] < 0) continue;
    const Address address = Address::Unpack(addresses[i], shard_bits_);
    RowRef ref = RowAt(address);
    const Shard& shard = ShardAt(address.shard);
    shard.mu.AssumeHeldShared();  // `locks`
    SameLockShared(shard.mu, ShardAt(address.shard).mu);
    if (int64_t key; ref == kNoRow && address.tag == tag_) {
      const bool known = address.slot < shard.arena->slots() &&
                         shard.arena->DepartedKey(address.slot, address.generation, &key);
      if (known) ref = shard.index.Find(HashKey(key), key);
    }
    if (ref == kNoRow || !Expired(address.shard, ref)) continue;
    if (masked.empty()) {
      masked.assign(addresses.begin(), addresses.end());
      *first = i;
    }
    masked[i] = kNoAddress;
  }
  return masked;
}

int64_t TableState::CountExpired() const {
  std::atomic<int64_t> expired{0};
  const Locks locks = LockAllShared();
  if (!sweep_.by_age) return 0;
  WorkerPool::Get().Run(shards(), [&](size_t shard) {
    const auto s = static_cast<uint32_t>(shard);
    ShardAt(s).mu.AssumeHeldShared();  // `locks`
    const RowArena& arena = *ShardAt(s).arena;
    int64_t here = 0;
    for (uint32_t slot = 0; slot < arena.slots(); ++slot) {
      const bool live = (arena.Meta(slot).generation & 1) != 0;
      here += live && Expired(s, slot);
    }
    if (tier_ != nullptr) {
      const SpilledRows& spilled = SpilledOf(s);
      for (uint64_t position = 0; position < KeyIndex::kEndOfPositions;) {
        position = spilled.VisitSegment(
            position, [&](int64_t /*key*/, SpilledRow* row) { here += Expired(*row); });
      }
    }
    expired += here;
  });
  return expired;
}

}  // namespace mxrec
