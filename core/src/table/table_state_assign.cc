// TableState: rows set to given embeddings.
#include <algorithm>
#include <cstring>
#include <limits>

#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 16;
// RowMeta::last_time of a row that the running InsertMissing has made; behind the shard's lock.
constexpr uint32_t kOfThisBatch = std::numeric_limits<uint32_t>::max();

}  // namespace

// Finds or makes the row of every occurrence: the index itself tells duplicates. Sets batch->ref,
// batch->fresh (the row was made for this occurrence). Existing rows stay as they are.
bool TableState::AssignInShard(uint32_t s, KeyBatch* batch, const float* values, Existing existing,
                               int64_t* inserted) {
  Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  RowArena& arena = *shard.arena;
  const size_t b = batch->begin(s);
  const size_t e = batch->end(s);
  const size_t row_bytes = static_cast<size_t>(dim_) * sizeof(float);
  const auto value_at = [&](size_t j) {
    return values + batch->position[j] * static_cast<size_t>(dim_);
  };
  bool done = true;
  for (size_t j = b, ahead = b; j < e; ++j) {
    for (; ahead < std::min(e, j + kAhead); ++ahead) {
      batch->hash[ahead] = HashKey(batch->occurrence_key(ahead));
      Prefetch(shard.index.HomeBucket(batch->hash[ahead]));
      PrefetchRange(value_at(ahead), row_bytes);
    }
    const int64_t key = batch->occurrence_key(j);
    RowRef ref = shard.index.Find(batch->hash[j], key);
    if (ref == kNoRow) {
      ref = NewRow(&shard, batch->hash[j], key);
      if (ref == kNoRow) {
        done = false;
        break;
      }
      batch->fresh[j] = 1;
      if (tracker_.counts_recent()) tracker_.ForgetRecent(s, ref);
      ++*inserted;
      InitializeRow(key, value_at(j), arena.Row(ref));
      if (existing == Existing::kKeep) arena.Meta(ref).last_time = kOfThisBatch;
    } else if (existing == Existing::kKeep && arena.Meta(ref).last_time == kOfThisBatch) {
      // The last of duplicates wins. Not hot yet: the shard has been locked since it was made.
      StoreEmbedding(value_at(j), arena.Row(ref));
    }
    batch->ref[j] = ref;
  }
  for (size_t j = b; existing == Existing::kKeep && j < e; ++j) {
    if (batch->fresh[j] != 0) arena.Meta(batch->ref[j]).last_time = 0;
  }
  shard.inserts += *inserted;
  return done;
}

Status TableState::Assign(KeyBatch* batch, const float* values, Existing existing) {
  if (MayExceedCapacity(batch->size())) {
    MXREC_RETURN_IF_ERROR(CheckCapacity(batch, false, kAdmitAll));
  }
  ++batches_;
  std::atomic<bool> failed{false};
  std::atomic<int64_t> total{0};
  // Whether all occurrences of the shard made a row.
  std::vector<uint8_t> all_fresh(shards());
  ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t n = batch->end(s) - batch->begin(s);
    std::memset(batch->fresh.data() + batch->begin(s), 0, n);
    Shard& shard = ShardAt(s);
    if (failed || (n == 0 && !shard.HasIdleSlabs())) return;
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(s).mu);
    shard.arena->SetClock(batches_);
    int64_t inserted = 0;
    if (!AssignInShard(s, batch, values, existing, &inserted)) failed = true;
    all_fresh[s] = inserted == static_cast<int64_t>(n);
    total += inserted;
  });
  rows_ += total;
  if (failed) {
    ForEachShard(batch->size(), [&](uint32_t s) { rows_ -= UndoAssignInShard(s, *batch); });
    return OutOfMemory(*batch);
  }
  // Nothing can fail any more.
  if (admission_.on()) {
    ForEachShard(batch->size(), [&](uint32_t s) {
      Shard& shard = ShardAt(s);
      const ExclusiveLock lock(shard.mu);
      for (size_t j = batch->begin(s); j < batch->end(s); ++j) {
        if (batch->fresh[j] == 0) continue;
        TakeOverCount(&shard, batch->hash[j], batch->occurrence_key(j), batch->ref[j]);
      }
    });
  }
  if (existing == Existing::kKeep) return {};
  ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t e = batch->end(s);
    if (all_fresh[s] != 0) return;
    Shard& shard = ShardAt(s);
    const auto dim = static_cast<size_t>(dim_);
    const ExclusiveLock lock(shard.mu);
    RowArena& arena = *shard.arena;
    for (size_t j = batch->begin(s); j < e; ++j) {
      if (j + kAhead < e && batch->fresh[j + kAhead] == 0) {
        PrefetchRange(arena.Row(batch->ref[j + kAhead]), format_.embedding_bytes());
        PrefetchRange(values + batch->position[j + kAhead] * dim, dim * sizeof(float));
      }
      if (batch->fresh[j] != 0) continue;
      if (tracker_.active()) {
        const int64_t key = batch->occurrence_key(j);
        tracker_.Touch(s, batch->ref[j], &key, &arena.Meta(batch->ref[j]),
                       arena.Row(batch->ref[j]));
      }
      StoreEmbedding(values + batch->position[j] * dim, arena.Row(batch->ref[j]));
      hot_.WriteThrough(s, batch->ref[j], arena.Row(batch->ref[j]));
    }
  });
  return {};
}

// Returns the rows taken back.
int64_t TableState::UndoAssignInShard(uint32_t s, const KeyBatch& batch) {
  Shard& shard = ShardAt(s);
  const ExclusiveLock lock(shard.mu);
  int64_t undone = 0;
  for (size_t j = batch.begin(s); j < batch.end(s); ++j) {
    if (batch.fresh[j] == 0) continue;
    shard.index.Erase(batch.hash[j], batch.occurrence_key(j));
    hot_.Drop(s, batch.ref[j]);
    shard.arena->Free(batch.ref[j], batch.occurrence_key(j));
    ++undone;
  }
  shard.inserts -= undone;
  return undone;
}

}  // namespace mxrec
