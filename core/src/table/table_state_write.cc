// TableState: what makes, sets and removes rows.
#include <algorithm>
#include <cstring>
#include <limits>

#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 32;

}  // namespace

void TableState::InitializeRow(int64_t key, const float* values, float* row) const {
  if (values != nullptr) {
    StoreEmbedding(values, row);
  } else if (format_.is_float32()) {
    initializer_->Fill(key, row);
  } else {
    float drawn[kMaxDim];
    initializer_->Fill(key, drawn);
    StoreEmbedding(drawn, row);
  }
  format_.Identify(key, row);
  if (optimizer_ != nullptr) optimizer_->InitSlots(Slots(row), dim_);
}

RowRef TableState::NewRow(Shard* shard, uint64_t hash, int64_t key) {
  const RowRef slot = shard->arena->Allocate();
  if (slot == RowArena::kNoSlot) return kNoRow;
  if (shard->index.Insert(hash, key, slot)) return slot;
  shard->arena->Free(slot, key);
  return kNoRow;
}

// Gives every missing unique key a row. On failure batch->fresh tells what UndoInShard must undo.
bool TableState::InsertInShard(uint32_t s, KeyBatch* batch) {
  Shard& shard = *shards_[s];
  const size_t e = batch->unique_end(s);
  for (size_t u = batch->begin(s); u < e; ++u) {
    if (u + kAhead < e && batch->ref[u + kAhead] == kNoRow) {
      Prefetch(shard.index.HomeBucket(batch->hash[u + kAhead]));
    }
    if (batch->ref[u] != kNoRow) continue;
    const RowRef slot = NewRow(&shard, batch->hash[u], batch->key[u]);
    if (slot == kNoRow) return false;
    batch->ref[u] = slot;
    batch->fresh[u] = 1;
    InitializeRow(batch->key[u], nullptr, shard.arena->Row(slot));
    ++shard.inserts;
  }
  return true;
}

void TableState::UseRow(uint32_t s, size_t u, KeyBatch* batch, const InsertRequest& request) {
  Shard& shard = *shards_[s];
  batch->address[u] = AddressOf(s, batch->ref[u]);
  if (request.count_use) {
    RowMeta& meta = shard.arena->Meta(batch->ref[u]);
    batch->old_frequency[u] = meta.frequency;
    batch->old_time[u] = meta.last_time;
    const uint32_t room = std::numeric_limits<uint32_t>::max() - meta.frequency;
    meta.frequency += std::min(room, batch->count[u]);
    meta.last_time = request.now;
    (batch->fresh[u] != 0 ? shard.misses : shard.hits) += batch->count[u];
  }
  if (request.unique != nullptr) WriteUnique(s, u, batch, *request.unique);
}

// Finds the unique keys of a shard and uses the rows that are there, each step so far behind the
// one before that what that prefetched has arrived. found: batch->ref is filled already.
void TableState::FindAndUse(uint32_t s, KeyBatch* batch, bool found, const InsertRequest& request) {
  const Shard& shard = *shards_[s];
  const bool rows = request.unique != nullptr && request.unique->output.rows != nullptr;
  const size_t b = batch->begin(s);
  const size_t n = batch->unique_end(s) - b;
  for (size_t i = 0; i < n + 2 * kAhead; ++i) {
    if (!found && i < n) Prefetch(shard.index.HomeBucket(batch->hash[b + i]));
    if (i >= kAhead && i < n + kAhead) {
      const size_t u = b + i - kAhead;
      if (!found) batch->ref[u] = shard.index.Find(batch->hash[u], batch->key[u]);
      if (batch->ref[u] != kNoRow) {
        Prefetch(&shard.arena->Meta(batch->ref[u]));
        if (rows) PrefetchRange(shard.arena->Row(batch->ref[u]), format_.embedding_bytes());
      }
    }
    if (i >= 2 * kAhead) {
      const size_t u = b + i - 2 * kAhead;
      if (batch->ref[u] != kNoRow) UseRow(s, u, batch, request);
    }
  }
}

// Returns the rows taken back.
int64_t TableState::UndoInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request) {
  Shard& shard = *shards_[s];
  std::unique_lock lock(shard.mu);
  int64_t undone = 0;
  for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
    const bool used = request.count_use && batch->address[u] != kNoAddress;
    if (batch->fresh[u] != 0) {
      shard.index.Erase(batch->hash[u], batch->key[u]);
      hot_.Drop(s, batch->ref[u]);
      shard.arena->Free(batch->ref[u], batch->key[u]);
      --shard.inserts;
      if (used) shard.misses -= batch->count[u];
      ++undone;
    } else if (used) {
      RowMeta& meta = shard.arena->Meta(batch->ref[u]);
      meta.frequency = batch->old_frequency[u];
      meta.last_time = batch->old_time[u];
      shard.hits -= batch->count[u];
    }
  }
  return undone;
}

void TableState::GatherInShard(uint32_t s, const KeyBatch& batch,
                               const InsertRequest& request) const {
  const RowArena& arena = *shards_[s]->arena;
  const size_t e = batch.end(s);
  const size_t row_bytes = format_.embedding_bytes();
  for (size_t j = batch.begin(s); j < e; ++j) {
    if (j + kAhead < e) {
      PrefetchRange(arena.Row(batch.ref[batch.unique_of[j + kAhead]]), row_bytes);
    }
    const uint32_t position =
        request.positions == nullptr ? batch.position[j] : request.positions[batch.position[j]];
    LoadEmbedding(arena.Row(batch.ref[batch.unique_of[j]]),
                  request.gather + position * static_cast<size_t>(dim_));
  }
}

Status TableState::OutOfMemory(const KeyBatch& batch) const {
  return ResourceExhausted("out of memory while inserting a batch of " +
                           std::to_string(batch.size()) + " keys into table '" + name_ + "' of " +
                           std::to_string(rows()) + " rows; none was inserted");
}

Status TableState::CheckCapacity(KeyBatch* batch, bool deduplicated) {
  std::atomic<int64_t> missing{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    if (!deduplicated) batch->Deduplicate(s);
    std::shared_lock lock(shards_[s]->mu);
    FindInShard(*shards_[s], batch, s);
    missing += std::count(batch->ref.data() + batch->begin(s),
                          batch->ref.data() + batch->unique_end(s), kNoRow);
  });
  if (!ok) return OutOfMemory(*batch);
  if (rows() + missing <= capacity_) return {};
  refused_ += missing;
  return ResourceExhausted("table '" + name_ + "' is full: its capacity is " +
                           std::to_string(capacity_) + " rows, " + std::to_string(rows()) +
                           " are in use and the batch brings " + std::to_string(missing.load()) +
                           " new keys; none was inserted. Raise memory_rows "
                           "(device_vocabulary_size or host_vocabulary_size of create_table), or "
                           "use dynamic expansion");
}

Status TableState::Insert(KeyBatch* batch, const InsertRequest& request) {
  const bool deduplicated = request.distinct.has_value();
  const bool counted = MayExceedCapacity(request.distinct.value_or(batch->size()));
  if (counted) MXREC_RETURN_IF_ERROR(CheckCapacity(batch, deduplicated));
  ++batches_;
  std::atomic<bool> failed{false};
  std::atomic<int64_t> inserted{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t b = batch->begin(s);
    std::memset(batch->fresh.data() + b, 0, batch->end(s) - b);
    std::fill(batch->address.data() + b, batch->address.data() + batch->end(s), kNoAddress);
    if (failed) return;
    if (!counted && !deduplicated) batch->Deduplicate(s);
    const size_t e = batch->unique_end(s);
    Shard& shard = *shards_[s];
    if (b == e && !shard.arena->has_idle_slabs()) return;
    std::unique_lock lock(shard.mu);
    shard.arena->SetClock(batches_);
    FindAndUse(s, batch, counted, request);
    const bool done = InsertInShard(s, batch);
    inserted += std::count(batch->fresh.data() + b, batch->fresh.data() + e, 1);
    if (!done) {
      failed = true;
      return;
    }
    for (size_t u = b; u < e; ++u) {
      if (batch->fresh[u] != 0) UseRow(s, u, batch, request);
    }
    if (request.unique != nullptr) WriteInverse(s, *batch, request.unique->inverse);
    if (request.gather != nullptr) GatherInShard(s, *batch, request);
  });
  rows_ += inserted;
  if (ok && !failed) return {};
  for (uint32_t s = 0; s < shards(); ++s) rows_ -= UndoInShard(s, batch, request);
  return OutOfMemory(*batch);
}

int64_t TableState::Erase(KeyBatch* batch) {
  std::atomic<int64_t> erased{0};
  ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t e = batch->end(s);
    if (batch->begin(s) == e) return;
    Shard& shard = *shards_[s];
    std::unique_lock lock(shard.mu);
    shard.arena->SetClock(batches_);
    int64_t here = 0;
    for (size_t j = batch->begin(s), ahead = j; j < e; j += kAhead) {
      for (; ahead < std::min(e, j + 2 * kAhead); ++ahead) {
        batch->hash[ahead] = HashKey(batch->occurrence_key(ahead));
        Prefetch(shard.index.HomeBucket(batch->hash[ahead]));
      }
      const size_t window = std::min(e, j + kAhead);
      for (size_t i = j; i < window; ++i) {
        batch->ref[i] = shard.index.Erase(batch->hash[i], batch->occurrence_key(i));
        if (batch->ref[i] == kNoRow) continue;
        Prefetch(shard.arena->Row(batch->ref[i]));
        Prefetch(&shard.arena->Meta(batch->ref[i]));
      }
      for (size_t i = j; i < window; ++i) {
        if (batch->ref[i] == kNoRow) continue;
        hot_.Drop(s, batch->ref[i]);
        shard.arena->Free(batch->ref[i], batch->occurrence_key(i));
        ++here;
      }
    }
    shard.erased += here;
    erased += here;
  });
  rows_ -= erased;
  return erased;
}

}  // namespace mxrec
