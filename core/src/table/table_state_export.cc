// TableState: rows out of and into it as blocks.
#include <algorithm>
#include <cstring>

#include "table/table_state.h"

namespace mxrec {

void TableState::Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block, bool locked) const {
  constexpr uint64_t kEnd = uint64_t{1} << 32;
  const auto width = static_cast<size_t>(row_floats());
  block->clear();
  while (cursor->shard < shards() && static_cast<int64_t>(block->size()) < max_rows) {
    const Shard& shard = *shards_[cursor->shard];
    std::shared_lock<SharedMutex> lock;
    if (!locked) lock = std::shared_lock(shard.mu);
    std::vector<RowRef> refs;
    const bool sweeping = this->sweeping();
    cursor->position = shard.index.VisitSegment(cursor->position, [&](int64_t key, RowRef ref) {
      if (sweeping && Expired(cursor->shard, ref)) return;
      block->keys.push_back(key);
      refs.push_back(ref);
    });
    const size_t old = block->frequency.size();
    block->frequency.resize(old + refs.size());
    block->last_time.resize(old + refs.size());
    block->values.resize((old + refs.size()) * width);
    for (size_t i = 0; i < refs.size(); ++i) {
      const RowMeta& meta = shard.arena->Meta(refs[i]);
      block->frequency[old + i] = meta.frequency;
      block->last_time[old + i] = meta.last_time;
      const float* row = shard.arena->Row(refs[i]);
      float* out = block->values.data() + (old + i) * width;
      LoadEmbedding(row, out);
      std::memcpy(out + dim_, Slots(row), (width - dim_) * sizeof(float));
    }
    if (cursor->position >= kEnd) {
      ++cursor->shard;
      cursor->position = 0;
    }
  }
}

Status TableState::Load(const RowBlock& block, int block_row_floats, bool replaces) {
  const size_t n = block.size();
  const auto width = static_cast<size_t>(block_row_floats);
  if (block.frequency.size() != n || block.last_time.size() != n ||
      block.values.size() != n * width) {
    return Internal("a row block's columns differ in length");
  }
  if (n == 0) return {};
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(block.keys, shard_bits_, KeyBatch::Grouping::kKeys);
  MXREC_RETURN_IF_ERROR(Insert(batch.get(), {.draws_rows = false}));
  // Every key is new to this version, or the rows are not what a table saved.
  const auto is_twice = [&](uint32_t s, size_t u) {
    if (batch->count[u] != 1) return true;
    if (batch->fresh[u] != 0) return false;
    const RowMeta& meta = shards_[s]->arena->Meta(batch->ref[u]);
    return !replaces || meta.stamp == tracker_.fresh_stamp();
  };
  for (uint32_t s = 0; s < shards(); ++s) {
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      if (is_twice(s, u)) {
        return DataLoss("key " + std::to_string(batch->key[u]) + " of table '" + name_ +
                        "' is there twice");
      }
    }
  }
  const size_t copied_slots = std::min(width, static_cast<size_t>(row_floats())) - dim_;
  ForEachShard(n, [&](uint32_t s) {
    Shard& shard = *shards_[s];
    std::unique_lock lock(shard.mu);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      const size_t from = batch->first[u];
      const float* saved = block.values.data() + from * width;
      float* row = shard.arena->Row(batch->ref[u]);
      StoreEmbedding(saved, row);
      std::memcpy(Slots(row), saved + dim_, copied_slots * sizeof(float));
      RowMeta& meta = shard.arena->Meta(batch->ref[u]);
      meta.frequency = block.frequency[from];
      meta.last_time = block.last_time[from];
      meta.stamp = tracker_.fresh_stamp();
      if (replaces && shard.counters != nullptr) {
        shard.counters->Forget(batch->hash[u], batch->key[u]);
      }
    }
    shard.inserts = 0;  // restored, not inserted
  });
  return {};
}

void TableState::Reconfigure(const OptimizerOptions& optimizer) {
  optimizer_ = Optimizer::Make(optimizer);
}

Status TableState::Relayout(const OptimizerOptions& optimizer) {
  const int slots = SlotCount(optimizer.kind);
  const auto width = static_cast<int>(format_.stored_floats(slots));
  std::unique_ptr<Optimizer> bound = Optimizer::Make(optimizer);
  std::vector<std::unique_ptr<RowArena>> arenas;
  for (const auto& shard : shards_) {
    auto arena = std::make_unique<RowArena>(&row_pages_, width);
    if (!shard->arena->CopySlotsTo(arena.get(), static_cast<int>(format_.slots_at()))) {
      return ResourceExhausted("out of memory while giving table '" + name_ + "' the slots of " +
                               OptimizerName(optimizer.kind) + "; the table is as it was");
    }
    for (uint32_t slot = 0; bound != nullptr && slot < arena->slots(); ++slot) {
      if ((arena->Meta(slot).generation & 1) != 0) {
        bound->InitSlots(Slots(arena->Row(slot)), dim_);
      }
    }
    arenas.push_back(std::move(arena));
  }
  for (uint32_t s = 0; s < shards(); ++s) {
    std::unique_lock lock(shards_[s]->mu);
    shards_[s]->arena = std::move(arenas[s]);
  }
  slots_ = slots;
  tracker_.SetRowBytes(static_cast<size_t>(width) * sizeof(float));
  TrackCounts(false);
  optimizer_ = std::move(bound);
  return {};
}

}  // namespace mxrec
