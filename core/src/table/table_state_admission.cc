// TableState: which keys get a row, and the counts of those that have none.
#include <algorithm>

#include "admission/sketch_counters.h"
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 32;

}  // namespace

Status TableState::ConfigureAdmission(const AdmissionOptions& admission) {
  if (admission.on()) {
    std::vector<std::unique_ptr<KeyCounters>> counters;
    for (uint32_t s = 0; s < shards(); ++s) {
      counters.push_back(KeyCounters::Make(admission, &index_pages_, shard_bits_, s));
      if (counters.back() == nullptr) {
        return ResourceExhausted("out of memory while turning on admission for table '" + name_ +
                                 "'; the table is as it was");
      }
    }
    for (uint32_t s = 0; s < shards(); ++s) {
      const ExclusiveLock lock(ShardAt(s).mu);
      ShardAt(s).counters = std::move(counters[s]);
    }
  }
  admission_ = admission;
  threshold_ = admission.threshold > 0 ? admission.threshold : kNeverAdmit;
  frozen_ = admission.threshold == 0;
  return {};
}

void TableState::SetThreshold(int64_t threshold) {
  frozen_ = threshold == 0;
  if (threshold > 0) threshold_ = threshold;
}

AdmissionState TableState::admission_state() const {
  return {.threshold = threshold_,
          .frozen = frozen_,
          .latest_time = latest_time_,
          .time_source = time_source_};
}

void TableState::SetAdmissionState(const AdmissionState& state) {
  threshold_ = state.threshold;
  frozen_ = state.frozen;
  latest_time_ = state.latest_time;
  time_source_ = state.time_source;
}

bool TableState::WouldAdmit(const Shard& shard, const KeyBatch& batch, size_t u,
                            uint64_t coefficient) const {
  if (shard.counters == nullptr || coefficient == kAdmitAll) return true;
  if (coefficient == kAdmitNone) return false;
  const uint32_t seen = shard.counters->Peek(batch.hash[u], batch.key[u]).count;
  return Admits(seen, batch.count[u], coefficient);
}

bool TableState::Refuse(KeyCounters* counters, KeyBatch* batch, size_t u) const {
  batch->refused[u] = kRefused;
  if (frozen_) return true;
  bool fresh;
  const uint32_t place = counters->Reserve(batch->hash[u], batch->key[u], &fresh);
  if (place == KeyCounters::kNothing) {
    batch->refused[u] = kNotRefused;
    return false;
  }
  batch->count_at[u] = place;
  if (fresh) batch->refused[u] = kRefusedAnew;
  return true;
}

void TableState::UndoRefusal(Shard* shard, KeyBatch* batch, size_t u) {
  if (batch->refused[u] == kNotRefused) return;
  shard->misses -= batch->count[u];
  if (batch->refused[u] == kRefusedAnew) shard->counters->Forget(batch->hash[u], batch->key[u]);
}

// Nothing can fail any more: counts grow, and keys that have a row now need none.
void TableState::CommitCounts(KeyBatch* batch, const InsertRequest& request) {
  std::atomic<int64_t> refused{0};
  ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t b = batch->begin(s), e = batch->unique_end(s);
    const auto changes = [&](size_t u) {
      return batch->fresh[u] != 0 || batch->refused[u] != kNotRefused;
    };
    size_t first = b;
    while (first < e && !changes(first)) ++first;
    if (first == e) return;
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    int64_t here = 0;
    for (size_t u = first; u < e; ++u) {
      if (u + kAhead < e && changes(u + kAhead)) shard.counters->Prefetch(batch->hash[u + kAhead]);
      if (batch->fresh[u] != 0) {
        shard.counters->Forget(batch->hash[u], batch->key[u]);
      } else if (batch->refused[u] != kNotRefused) {
        ++here;
        if (frozen_) continue;
        const uint32_t time = request.times.each == nullptr ? request.times.all : batch->time[u];
        shard.counters->Commit(batch->hash[u], batch->key[u], batch->count_at[u],
                               AddSaturating(0, batch->count[u] * request.coefficient), time);
      }
    }
    refused += here;
  });
  counters_.refused_by_admission += refused;
}

void TableState::ForgetCount(uint32_t s, uint64_t hash, int64_t key) {
  KeyCounters& counters = *ShardAt(s).counters;
  if (tracker_.active() && counters.Peek(hash, key).count > 0) tracker_.Forget(s, key);
  counters.Forget(hash, key);
}

void TableState::FillTimes(uint32_t s, KeyBatch* batch, const InsertRequest& request) const {
  std::fill(batch->time.data() + batch->begin(s), batch->time.data() + batch->unique_end(s), 0);
  for (size_t j = batch->begin(s); j < batch->end(s); ++j) {
    const size_t part = request.place_of(batch->position[j]) / request.times.per;
    uint32_t& time = batch->time[batch->unique_of[j]];
    time = std::max(time, static_cast<uint32_t>(request.times.each[part]));
  }
}

void TableState::TakeOverCount(Shard* shard, uint64_t hash, int64_t key, RowRef ref) {
  const KeyCount count = shard->counters->Peek(hash, key);
  if (count.count == 0) return;
  RowMeta& meta = shard->arena->Meta(ref);
  meta.frequency = count.count;
  meta.last_time = count.last_time;
  if (admission_.mode == AdmissionMode::kSketch) meta.last_time = latest_time_;  // it keeps none
  // What was too old has gone before: this count was used since the sweep began.
  if (sweep_.by_age && meta.last_time <= sweep_.cutoff) shard->reprieved.insert(ref);
  shard->counters->Forget(hash, key);
}

void TableState::Counts(KeySpan keys, int64_t* out) const {
  const Locks locks = LockAllShared();
  WorkerPool::Get().RunRanges(keys.size(), kParallelKeys, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + kAhead < end) {
        const uint64_t ahead = HashKey(keys[i + kAhead]);
        const Shard& shard = ShardAt(ShardOf(ahead, shard_bits_));
        shard.mu.AssumeHeldShared();  // `locks`
        Prefetch(shard.index.HomeBucket(ahead));
      }
      const uint64_t hash = HashKey(keys[i]);
      const uint32_t s = ShardOf(hash, shard_bits_);
      const Shard& shard = ShardAt(s);
      shard.mu.AssumeHeldShared();
      SameLockShared(shard.mu, ShardAt(s).mu);
      const RowRef ref = shard.index.Find(hash, keys[i]);
      if (ref != kNoRow) {
        out[i] = shard.arena->Meta(ref).frequency;
      } else if (const SpilledRow* row = FindSpilled(s, hash, keys[i]); row != nullptr) {
        out[i] = row->frequency;
      } else {
        out[i] = shard.counters == nullptr ? 0 : shard.counters->Peek(hash, keys[i]).count;
      }
    }
  });
}

void TableState::ScanCounts(ScanCursor* cursor, int64_t max_rows, RowBlock* block) const {
  constexpr uint64_t kEnd = uint64_t{1} << 32;
  block->clear();
  while (cursor->shard < shards() && static_cast<int64_t>(block->size()) < max_rows) {
    const Shard& shard = ShardAt(cursor->shard);
    const SharedLock lock(shard.mu);
    if (shard.counters == nullptr) {
      cursor->position = kEnd;
    } else {
      const auto cutoff = sweeping() && sweep_.by_age ? std::optional(sweep_.cutoff) : std::nullopt;
      shard.counters->Scan(cutoff, &cursor->position, block);
    }
    if (cursor->position >= kEnd) {
      ++cursor->shard;
      cursor->position = 0;
    }
  }
}

Status TableState::LoadCounts(const RowBlock& block, bool replaces) {
  const bool exact = admission_.mode == AdmissionMode::kExact;
  for (size_t i = 0; i < block.size(); ++i) {
    const uint64_t hash = HashKey(block.keys[i]);
    uint32_t s = ShardOf(hash, shard_bits_);
    if (!exact) {
      const uint64_t blocks = SketchCounters::Blocks(admission_.expected_keys);
      const auto number = static_cast<uint64_t>(block.keys[i]);
      s = number < blocks ? static_cast<uint32_t>(number / (blocks >> shard_bits_)) : shards();
    }
    const auto unknown = [&] {
      return DataLoss("block " + std::to_string(block.keys[i]) +
                      " is none of the sketch of table '" + name_ + "'");
    };
    if (s == shards()) return unknown();
    ShardAt(s).mu.AssumeHeld();  // it need not be: no table has these shards yet
    if (ShardAt(s).counters == nullptr) return unknown();
    if (exact && HasRow(s, hash, block.keys[i])) {
      return DataLoss("key " + std::to_string(block.keys[i]) + " of table '" + name_ +
                      "' has both a row and a count");
    }
    switch (ShardAt(s).counters->Load(block, i, replaces)) {
      case KeyCounters::Loaded::kDone:
        break;
      case KeyCounters::Loaded::kTwice:
        return DataLoss(std::string(exact ? "the count of key " : "block ") +
                        std::to_string(block.keys[i]) + " of table '" + name_ + "' is there twice");
      case KeyCounters::Loaded::kNoMemory:
        return ResourceExhausted("out of memory while loading the counts of table '" + name_ + "'");
    }
  }
  return {};
}

}  // namespace mxrec
