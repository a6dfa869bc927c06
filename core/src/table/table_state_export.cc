// TableState: rows out of and into it as blocks.
#include <algorithm>
#include <cstring>

#include "table/table_state.h"

namespace mxrec {

Status TableState::EmitSpilled(const ssd::SsdLog::Guard& guard, const SpilledBatch& batch,
                               RowBlock* block) const {
  return ReadSpilled(guard, batch.wanted, [&](size_t i, const float* row) {
    EmitRow(batch.wanted[i].key, batch.metas[i].frequency, batch.metas[i].last_time, row, block);
  });
}

Status TableState::Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block, bool locked) const {
  block->clear();
  while (cursor->shard < shards() && static_cast<int64_t>(block->size()) < max_rows) {
    const uint32_t s = cursor->shard;
    const Shard& shard = ShardAt(s);
    std::optional<ssd::SsdLog::Guard> guard;
    SpilledBatch spilled;
    {
      if (tier_ != nullptr) guard.emplace(tier_->log().Enter());
      std::shared_lock lock(shard.mu, std::defer_lock);
      if (!locked || tier_ != nullptr) lock.lock();
      // Or changes are kept out by the caller.
      ShardAt(s).mu.AssumeHeldShared();
      const bool sweeping = this->sweeping();
      cursor->position = VisitRows(s, cursor->position, [&](const Entry& entry) {
        shard.mu.AssumeHeldShared();
        SameLockShared(shard.mu, ShardAt(s).mu);
        if (sweeping && Expired(s, entry)) return;
        if (entry.spilled == nullptr) {
          const RowMeta& meta = shard.arena->Meta(entry.ref);
          EmitRow(entry.key, meta.frequency, meta.last_time, shard.arena->Row(entry.ref), block);
        } else {
          spilled.Add(entry.key, *entry.spilled);
        }
      });
    }
    if (guard.has_value()) MXREC_RETURN_IF_ERROR(EmitSpilled(*guard, spilled, block));
    if (cursor->position >= KeyIndex::kEndOfPositions) *cursor = {s + 1, 0};
  }
  return {};
}

Status TableState::MakeRows(const std::vector<int64_t>& keys, KeyBatch* batch,
                            const std::function<bool(uint32_t, RowRef)>& may_be_there) {
  MXREC_RETURN_IF_ERROR(BringIn(keys));
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  MXREC_RETURN_IF_ERROR(Insert(batch, {.draws_rows = false}));
  for (uint32_t s = 0; s < shards(); ++s) {
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      const bool is_new = batch->fresh[u] != 0 || may_be_there(s, batch->ref[u]);
      if (is_new && batch->count[u] == 1) continue;
      return DataLoss("key " + std::to_string(batch->key[u]) + " of table '" + name_ +
                      "' is there twice");
    }
  }
  return {};
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
  // Every key is new to this version, or the rows are not what a table saved.
  MXREC_RETURN_IF_ERROR(MakeRows(block.keys, batch.get(), [&](uint32_t s, RowRef ref) {
    ShardAt(s).mu.AssumeHeldShared();  // nobody else has these rows
    return replaces && ShardAt(s).arena->Meta(ref).stamp != tracker_.fresh_stamp();
  }));
  const size_t copied_slots = std::min(width, static_cast<size_t>(row_floats())) - dim_;
  // Saved rows come in the order of their hashes, so those of a block are in one shard or two: what
  // goes in parallel is parts of the block. All of its keys are distinct.
  const auto locks = LockAllExclusive();
  WorkerPool::Get().RunRanges(n, kParallelKeys / 4, [&](size_t begin, size_t end) {
    for (size_t u = begin; u < end; ++u) {
      Shard& shard = ShardAt(ShardOf(batch->hash[u], shard_bits_));
      shard.mu.AssumeHeld();  // LockAllExclusive
      const size_t from = batch->first[u];
      const float* saved = block.values.data() + from * width;
      float* row = shard.arena->Row(batch->ref[u]);
      StoreEmbedding(saved, row);
      std::memcpy(Slots(row), saved + dim_, copied_slots * sizeof(float));
      RowMeta& meta = shard.arena->Meta(batch->ref[u]);
      meta.frequency = block.frequency[from];
      meta.last_time = block.last_time[from];
      meta.stamp = tracker_.fresh_stamp();
    }
  });
  for (uint32_t s = 0; s < shards(); ++s) {
    Shard& shard = ShardAt(s);
    shard.mu.AssumeHeld();
    for (size_t u = batch->begin(s); replaces && u < batch->unique_end(s); ++u) {
      if (shard.counters != nullptr) shard.counters->Forget(batch->hash[u], batch->key[u]);
    }
    shard.inserts = 0;  // restored, not inserted
  }
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
    const SharedLock lock(shard->mu);
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
  MXREC_RETURN_IF_ERROR(RelayoutSpilled(static_cast<size_t>(width), bound.get()));
  for (uint32_t s = 0; s < shards(); ++s) {
    const ExclusiveLock lock(ShardAt(s).mu);
    ShardAt(s).arena = std::move(arenas[s]);
  }
  slots_ = slots;
  EnsureEpochs();
  tracker_.SetRowBytes(static_cast<size_t>(width) * sizeof(float));
  TrackCounts(false);
  StampFreshRows();
  optimizer_ = std::move(bound);
  return {};
}

}  // namespace mxrec
