// TableState: the rows and counts of one instant, read while changes go on (change_tracker.h).
#include <algorithm>
#include <cstring>
#include <mutex>

#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr uint64_t kEnd = uint64_t{1} << 32;  // of positions in an index
constexpr size_t kAhead = 16;

}  // namespace

void TableState::StampFreshRows() {
  for (const auto& shard : shards_) {
    const ExclusiveLock lock(shard->mu);
    shard->arena->SetFreshStamp(tracker_.fresh_stamp());
  }
}

void TableState::ForEachStamp(const std::function<void(uint16_t*)>& each) {
  WorkerPool::Get().Run(shards(), [&](size_t s) {
    const auto number = static_cast<uint32_t>(s);
    Shard& shard = ShardAt(number);
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(number).mu);
    for (uint32_t slot = 0; slot < shard.arena->slots(); ++slot) {
      RowMeta& meta = shard.arena->Meta(slot);
      if ((meta.generation & 1) != 0) each(&meta.stamp);
    }
    if (tier_ == nullptr) return;
    const SpilledRows& spilled = SpilledOf(number);
    for (uint64_t position = 0; position < kEnd;) {
      position = spilled.VisitSegment(position,
                                      [&](int64_t /*key*/, SpilledRow* row) { each(&row->stamp); });
    }
  });
}

void TableState::EnsureEpochs() {
  if (tracker_.HasEpochs()) return;
  ForEachStamp([&](uint16_t* stamp) { *stamp = tracker_.Restamped(*stamp); });
  tracker_.EndRestamp();
  StampFreshRows();
}

bool TableState::TrackCounts(bool on) {
  bool done = true;
  for (const auto& shard : shards_) {
    const ExclusiveLock lock(shard->mu);
    if (shard->counters != nullptr) done = shard->counters->Track(on) && done;
  }
  return done;
}

void TableState::BeginSnapshot(const ChangeTracker::Instant& given) {
  ChangeTracker::Instant instant = given;
  instant.by_age = sweeping() && sweep_.by_age;
  instant.cutoff = sweep_.cutoff;
  instant.sweep = sweep_.number;
  EnsureEpochs();
  const bool first = instant.tracks && tracker_.lineage().empty();
  if (first && !TrackCounts(true)) {
    TrackCounts(false);
    throw std::bad_alloc();
  }
  std::vector<const std::unordered_set<RowRef>*> reprieved;
  try {
    KeyCounters::SavedPart part{.delta = instant.delta, .cutoff = std::nullopt};
    if (instant.by_age) part.cutoff = instant.cutoff;
    for (const auto& shard : shards_) {
      reprieved.push_back(&shard->reprieved);
      const ExclusiveLock lock(shard->mu);
      if (shard->counters != nullptr) shard->counters->BeginSave(part);
    }
    // What the tracker has of every shard is about to change; statistics look at it beside changes.
    const auto locks = LockAllExclusive();
    tracker_.Begin(instant, reprieved);
  } catch (const std::bad_alloc&) {
    EndCountsSave(false);
    if (first) TrackCounts(false);
    throw;
  }
  snapshot_read_ = false;
  spilled_lap_ = {};
  StampFreshRows();
}

void TableState::EndCountsSave(bool follows) {
  for (const auto& shard : shards_) {
    const ExclusiveLock lock(shard->mu);
    if (shard->counters != nullptr) shard->counters->EndSave(follows);
  }
}

ChangeTracker::Remains TableState::EndSnapshot(const std::string& saved, int64_t step) {
  if (!snapshot_read_) {
    // The next save counts on all rows having been dealt with.
    ForEachStamp([&](uint16_t* stamp) { tracker_.MarkDone(stamp); });
  }
  EndCountsSave(!saved.empty() && tracker_.instant().tracks);
  auto locks = LockAllExclusive();
  ChangeTracker::Remains remains = tracker_.End(saved, step);
  locks.clear();
  if (tracker_.lineage().empty()) TrackCounts(false);
  return remains;
}

void TableState::SetLineage(const std::string& uid, int64_t step, bool counts_recent) {
  EnsureEpochs();
  // Without memory for what counts change there are no deltas.
  const bool tracked = TrackCounts(!uid.empty());
  auto locks = LockAllExclusive();
  tracker_.SetLineage(tracked ? uid : std::string(), step, counts_recent);
  locks.clear();
  StampFreshRows();
}

bool TableState::counts_lost() const {
  for (const auto& shard : shards_) {
    const SharedLock lock(shard->mu);
    if (shard->counters != nullptr && shard->counters->lost()) return true;
  }
  return false;
}

void TableState::EmitRow(int64_t key, uint32_t frequency, uint32_t last_time, const float* row,
                         RowBlock* block) const {
  const auto width = static_cast<size_t>(row_floats());
  block->keys.push_back(key);
  block->frequency.push_back(frequency);
  block->last_time.push_back(last_time);
  block->values.resize(block->values.size() + width);
  float* out = block->values.data() + block->values.size() - width;
  LoadEmbedding(row, out);
  std::memcpy(out + dim_, Slots(row), (width - dim_) * sizeof(float));
}

// Rows that are found under their key, as they are or as their images are.
Status TableState::ScanSegment(uint32_t s, uint64_t* position, RowBlock* block) {
  Shard& shard = ShardAt(s);
  std::optional<ssd::SsdLog::Guard> guard;
  if (tier_ != nullptr) guard.emplace(tier_->log().Enter());
  SpilledBatch spilled;
  SharedLock lock(shard.mu);
  SameLockShared(shard.mu, ShardAt(s).mu);
  RowArena& arena = *shard.arena;
  if (*position == 0 && tracker_.instant().delta) tracker_.Sift(s, &arena);
  std::vector<Entry> entries;
  *position = VisitRows(s, *position, [&](const Entry& entry) {
    if (entry.spilled == nullptr) {
      if (tracker_.MayBePending(s, entry.ref)) entries.push_back(entry);
      return;
    }
    ShardAt(s).mu.AssumeHeldShared();  // `lock`
    TakeForSave(s, entry.key, entry.spilled, &spilled);
  });
  // To the front: those that are written as they are.
  size_t kept = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i + kAhead < entries.size()) Prefetch(&arena.Meta(entries[i + kAhead].ref));
    const Entry entry = entries[i];
    switch (tracker_.Visit(s, entry.key, entry.ref, &arena.Meta(entry.ref))) {
      case ChangeTracker::Row::kSkip:
        break;
      case ChangeTracker::Row::kWrite:
        entries[kept++] = entry;
        break;
      case ChangeTracker::Row::kImage:
        tracker_.images(s).Take(entry.ref, [&](const RowImages::Image& image) {
          EmitRow(entry.key, image.frequency, image.last_time, image.row, block);
        });
        break;
    }
  }
  for (size_t i = 0; i < kept; ++i) {
    if (i + kAhead < kept) PrefetchRange(arena.Row(entries[i + kAhead].ref), stored_bytes());
    const RowMeta& meta = arena.Meta(entries[i].ref);
    EmitRow(entries[i].key, meta.frequency, meta.last_time, arena.Row(entries[i].ref), block);
  }
  if (!guard.has_value()) return {};
  lock.unlock();
  return EmitSpilled(*guard, spilled, block);
}

void TableState::TakeImages(uint32_t s, size_t most, bool orphans_only, RowBlock* block) {
  Shard& shard = ShardAt(s);
  const SharedLock lock(shard.mu);
  RowArena& arena = *shard.arena;
  tracker_.images(s).TakeKeyed(most, orphans_only, [&](RowRef ref, const RowImages::Image& image) {
    EmitRow(image.key, image.frequency, image.last_time, image.row, block);
    if (ref != kNoRow) tracker_.MarkDone(&arena.Meta(ref));
  });
}

Status TableState::ScanSnapshot(ScanCursor* cursor, size_t max_rows, int64_t image_bytes,
                                RowBlock* block) {
  block->clear();
  while (cursor->shard < shards() && block->size() < max_rows) {
    if (tracker_.image_bytes() > image_bytes / 2) {
      // Those first, wherever they are: their memory is wanted back.
      for (uint32_t s = 0; s < shards() && block->size() < max_rows; ++s) {
        TakeImages(s, max_rows - block->size(), false, block);
      }
      if (block->size() >= max_rows) return {};
    }
    MXREC_RETURN_IF_ERROR(ScanSpilled(max_rows, block));
    if (block->size() >= max_rows) return {};
    if (cursor->position < kEnd) {
      MXREC_RETURN_IF_ERROR(ScanSegment(cursor->shard, &cursor->position, block));
      continue;
    }
    // Every row of the shard has been dealt with, so no more of them leave orphans.
    const size_t before = block->size();
    TakeImages(cursor->shard, max_rows - before, true, block);
    if (block->size() == before) *cursor = {cursor->shard + 1, 0};
  }
  if (cursor->shard == shards() && block->size() == 0) snapshot_read_ = true;
  return {};
}

void TableState::ScanSnapshotCounts(ScanCursor* cursor, size_t max_rows, RowBlock* block) {
  block->clear();
  while (cursor->shard < shards() && block->size() < max_rows) {
    Shard& shard = ShardAt(cursor->shard);
    const ExclusiveLock lock(shard.mu);
    if (shard.counters == nullptr) {
      cursor->position = kEnd;
    } else {
      shard.counters->ScanSaved(&cursor->position, block);
    }
    if (cursor->position >= kEnd) *cursor = {cursor->shard + 1, 0};
  }
}

std::vector<int64_t> TableState::GoneKeys() const {
  std::vector<int64_t> keys;
  for (uint32_t s = 0; s < shards(); ++s) {
    const SharedLock lock(ShardAt(s).mu);
    tracker_.AddGone(s, &keys);
    if (ShardAt(s).counters != nullptr) ShardAt(s).counters->AddExpired(&keys);
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

// --- A chain of versions ------------------------------------------------------------------------

void TableState::BeginLink() {
  EnsureEpochs();
  tracker_.SetLineage({}, 0, false);
  StampFreshRows();
}

Status TableState::EraseKeys(const std::vector<int64_t>& keys) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  Erase(batch.get());
  for (const auto& shard : shards_) {
    const ExclusiveLock lock(shard->mu);
    shard->erased = 0;  // restored, not erased
  }
  return {};
}

}  // namespace mxrec
