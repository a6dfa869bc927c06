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

struct Entry {
  int64_t key;
  RowRef ref;
};

}  // namespace

void TableState::StampFreshRows() {
  for (const auto& shard : shards_) {
    std::unique_lock lock(shard->mu);
    shard->arena->SetFreshStamp(tracker_.fresh_stamp());
  }
}

void TableState::ForEachMeta(const std::function<void(RowMeta*)>& each) {
  WorkerPool::Get().Run(shards(), [&](size_t s) {
    Shard& shard = *shards_[s];
    std::unique_lock lock(shard.mu);
    for (uint32_t slot = 0; slot < shard.arena->slots(); ++slot) {
      RowMeta& meta = shard.arena->Meta(slot);
      if ((meta.generation & 1) != 0) each(&meta);
    }
  });
}

void TableState::EnsureEpochs() {
  if (tracker_.HasEpochs()) return;
  ForEachMeta([&](RowMeta* meta) { meta->stamp = tracker_.Restamped(meta->stamp); });
  tracker_.EndRestamp();
  StampFreshRows();
}

bool TableState::TrackCounts(bool on) {
  bool done = true;
  for (const auto& shard : shards_) {
    std::unique_lock lock(shard->mu);
    if (shard->counters != nullptr) done = shard->counters->Track(on) && done;
  }
  return done;
}

void TableState::BeginSnapshot(const ChangeTracker::Instant& given) {
  ChangeTracker::Instant instant = given;
  instant.by_age = sweeping() && sweep_.by_age;
  instant.cutoff = sweep_.cutoff;
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
      std::unique_lock lock(shard->mu);
      if (shard->counters != nullptr) shard->counters->BeginSave(part);
    }
    tracker_.Begin(instant, reprieved);
  } catch (const std::bad_alloc&) {
    EndCountsSave(false);
    if (first) TrackCounts(false);
    throw;
  }
  snapshot_read_ = false;
  StampFreshRows();
}

void TableState::EndCountsSave(bool follows) {
  for (const auto& shard : shards_) {
    std::unique_lock lock(shard->mu);
    if (shard->counters != nullptr) shard->counters->EndSave(follows);
  }
}

ChangeTracker::Remains TableState::EndSnapshot(const std::string& saved, int64_t step) {
  if (!snapshot_read_) {
    // The next save counts on all rows having been dealt with.
    ForEachMeta([&](RowMeta* meta) { tracker_.MarkDone(meta); });
  }
  EndCountsSave(!saved.empty() && tracker_.instant().tracks);
  ChangeTracker::Remains remains = tracker_.End(saved, step);
  if (tracker_.lineage().empty()) TrackCounts(false);
  return remains;
}

void TableState::SetLineage(const std::string& uid, int64_t step, bool counts_recent) {
  EnsureEpochs();
  // Without memory for what counts change there are no deltas.
  const bool tracked = TrackCounts(!uid.empty());
  tracker_.SetLineage(tracked ? uid : std::string(), step, counts_recent);
  StampFreshRows();
}

bool TableState::counts_lost() const {
  for (const auto& shard : shards_) {
    std::shared_lock lock(shard->mu);
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
void TableState::ScanSegment(uint32_t s, uint64_t* position, RowBlock* block) {
  Shard& shard = *shards_[s];
  std::shared_lock lock(shard.mu);
  RowArena& arena = *shard.arena;
  if (*position == 0 && tracker_.instant().delta) tracker_.Sift(s, &arena);
  std::vector<Entry> entries;
  *position = shard.index.VisitSegment(*position, [&](int64_t key, RowRef ref) {
    if (tracker_.MayBePending(s, ref)) entries.push_back({key, ref});
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
  const size_t row_bytes = format_.stored_floats(slots_) * sizeof(float);
  for (size_t i = 0; i < kept; ++i) {
    if (i + kAhead < kept) PrefetchRange(arena.Row(entries[i + kAhead].ref), row_bytes);
    const RowMeta& meta = arena.Meta(entries[i].ref);
    EmitRow(entries[i].key, meta.frequency, meta.last_time, arena.Row(entries[i].ref), block);
  }
}

void TableState::TakeImages(uint32_t s, size_t most, bool orphans_only, RowBlock* block) {
  Shard& shard = *shards_[s];
  std::shared_lock lock(shard.mu);
  tracker_.images(s).TakeKeyed(most, orphans_only, [&](RowRef ref, const RowImages::Image& image) {
    EmitRow(image.key, image.frequency, image.last_time, image.row, block);
    if (ref != kNoRow) tracker_.MarkDone(&shard.arena->Meta(ref));
  });
}

void TableState::ScanSnapshot(ScanCursor* cursor, size_t max_rows, int64_t image_bytes,
                              RowBlock* block) {
  block->clear();
  while (cursor->shard < shards() && block->size() < max_rows) {
    if (tracker_.image_bytes() > image_bytes / 2) {
      // Those first, wherever they are: their memory is wanted back.
      for (uint32_t s = 0; s < shards() && block->size() < max_rows; ++s) {
        TakeImages(s, max_rows - block->size(), false, block);
      }
      if (block->size() >= max_rows) return;
    }
    if (cursor->position < kEnd) {
      ScanSegment(cursor->shard, &cursor->position, block);
      continue;
    }
    // Every row of the shard has been dealt with, so no more of them leave orphans.
    const size_t before = block->size();
    TakeImages(cursor->shard, max_rows - before, true, block);
    if (block->size() == before) *cursor = {cursor->shard + 1, 0};
  }
  if (cursor->shard == shards() && block->size() == 0) snapshot_read_ = true;
}

void TableState::ScanSnapshotCounts(ScanCursor* cursor, size_t max_rows, RowBlock* block) {
  block->clear();
  while (cursor->shard < shards() && block->size() < max_rows) {
    Shard& shard = *shards_[cursor->shard];
    std::unique_lock lock(shard.mu);
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
    std::shared_lock lock(shards_[s]->mu);
    tracker_.AddGone(s, &keys);
    if (shards_[s]->counters != nullptr) shards_[s]->counters->AddExpired(&keys);
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

void TableState::EraseKeys(const std::vector<int64_t>& keys) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  Erase(batch.get());
  for (const auto& shard : shards_) shard->erased = 0;  // restored, not erased
}

}  // namespace mxrec
