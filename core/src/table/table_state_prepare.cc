// TableState: the part of a training lookup that can be done before its step, because it changes
// nothing: keys by shard, distinct ones, their rows.
#include <new>

#include "table/table_state.h"

namespace mxrec {

void TableState::Prepare(KeySpan keys, std::vector<int64_t>* missing) const {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  batch->generation.Reserve(batch->size());
  // The batch comes when those that were prepared before have come, and stays for a step.
  const uint32_t until =
      tier_ == nullptr ? 0 : tier_->batch + static_cast<uint32_t>(prepared_.size()) + 2;
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    batch->Deduplicate(s);
    const Shard& shard = ShardAt(s);
    const SharedLock lock(shard.mu);
    FindInShard(shard, batch.get(), s);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      const RowRef ref = batch->ref[u];
      batch->generation[u] = ref == kNoRow ? 0 : shard.arena->Meta(ref).generation;
      if (tier_ != nullptr && ref != kNoRow) tier_->shard(s).hand.Want(ref, until);
    }
  });
  if (!ok) throw std::bad_alloc();
  batch->distinct = batch->Number();
  if (missing != nullptr) {
    missing->clear();
    for (uint32_t s = 0; s < shards(); ++s) {
      for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
        if (batch->ref[u] == kNoRow) missing->push_back(batch->key[u]);
      }
    }
  }
  prepared_.Put(keys, std::move(batch));
}

}  // namespace mxrec
