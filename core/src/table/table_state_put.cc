// TableState and RowLoader: rows of another model.
#include <algorithm>
#include <cstring>
#include <new>

#include "table/table_state.h"

namespace mxrec {

Status TableState::Put(const RowBlock& block, int block_row_floats, RowLoader::Slots slots,
                       RowLoader::Present present) {
  const size_t n = block.size();
  const auto width = static_cast<size_t>(block_row_floats);
  const bool takes_slots = slots == RowLoader::Slots::kTake && optimizer_ != nullptr;
  if (block.values.size() != n * width ||
      (takes_slots && width < static_cast<size_t>(row_floats()))) {
    return Internal("rows of another model do not have the width that they should have");
  }
  if (n == 0) return {};
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  MXREC_RETURN_IF_ERROR(MakeRows(block.keys, batch.get(), [&](uint32_t, RowRef) {
    return present == RowLoader::Present::kReplace;
  }));
  const size_t slot_bytes = (static_cast<size_t>(row_floats()) - dim_) * sizeof(float);
  ForEachShard(n, [&](uint32_t s) {
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      const float* saved = block.values.data() + batch->first[u] * width;
      float* row = shard.arena->Row(batch->ref[u]);
      StoreEmbedding(saved, row);
      if (takes_slots) {
        std::memcpy(Slots(row), saved + dim_, slot_bytes);
      } else if (batch->fresh[u] == 0 && optimizer_ != nullptr) {
        optimizer_->InitSlots(Slots(row), dim_);
      }
      if (batch->fresh[u] != 0 && shard.counters != nullptr) {
        TakeOverCount(&shard, batch->hash[u], batch->key[u], batch->ref[u]);
      }
    }
    shard.inserts = 0;  // brought along, not inserted
  });
  return {};
}

Status RowLoader::Put(const RowBlock& block, int row_floats, Slots slots, Present present) {
  try {
    return state_->Put(block, row_floats, slots, present);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading " + std::to_string(block.size()) +
                             " rows");
  }
}

Status RowLoader::GiveSlots(const OptimizerOptions& optimizer) {
  try {
    MXREC_RETURN_IF_ERROR(state_->Relayout(optimizer));
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while giving rows the slots of " +
                             std::string(OptimizerName(optimizer.kind)));
  }
  saved_optimizer_ = optimizer;
  return {};
}

}  // namespace mxrec
