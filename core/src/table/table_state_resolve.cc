// TableState: the lookup of TensorFlow-level training, which wants the distinct keys of a batch
// with their addresses and rows.
#include <algorithm>
#include <new>

#include "table/table_state.h"

namespace mxrec {
void TableState::WriteUnique(uint32_t s, size_t u, KeyBatch* batch,
                             const UniqueRequest& request) const {
  const UniqueOutput& to = request.output;
  const RowRef ref = batch->ref[u];
  const uint32_t rank = batch->rank(u);
  const int64_t key = batch->key[u];
  batch->rank_of[u] = rank;
  if (to.keys != nullptr) to.keys[rank] = key;
  if (to.counts != nullptr) to.counts[rank] = batch->count[u];
  if (to.addresses != nullptr) {
    const bool none = ref == kNoRow || (has_padding() && IsPadding(key));
    to.addresses[rank] = none ? kNoAddress : AddressOf(s, ref);
  }
  if (to.rows == nullptr) return;
  const auto dim = static_cast<size_t>(dim_);
  if (ref != kNoRow) {
    LoadEmbedding(shards_[s]->arena->Row(ref), to.rows + rank * dim);
  } else {
    std::fill_n(to.rows + rank * dim, dim, 0.0f);
  }
}

void TableState::WriteInverse(uint32_t s, const KeyBatch& batch, int32_t* inverse) const {
  if (inverse == nullptr) return;
  for (size_t j = batch.begin(s); j < batch.end(s); ++j) {
    inverse[batch.position[j]] = static_cast<int32_t>(batch.rank_of[batch.unique_of[j]]);
  }
}

Status TableState::Resolve(KeySpan keys, ResolveMode mode, uint32_t now, int32_t* inverse,
                           const UniqueAllocator& allocate) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  if (!ForEachShard(batch->size(), [&](uint32_t s) { batch->Deduplicate(s); })) {
    throw std::bad_alloc();
  }
  const size_t unique = batch->Number();
  auto output = allocate(unique);
  if (!output.ok()) return output.status();
  const UniqueRequest request{inverse, output.value()};
  if (mode == ResolveMode::kInsert) {
    return Insert(batch.get(),
                  {.count_use = true, .now = now, .distinct = unique, .unique = &request});
  }
  ForEachShard(batch->size(), [&](uint32_t s) {
    std::shared_lock lock(shards_[s]->mu);
    FindInShard(*shards_[s], batch.get(), s);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      WriteUnique(s, u, batch.get(), request);
    }
    WriteInverse(s, *batch, inverse);
  });
  return {};
}

}  // namespace mxrec
