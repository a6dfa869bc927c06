// TableState: the lookup of TensorFlow-level training, which wants the distinct keys of a batch
// with their addresses and rows.
#include <new>

#include "table/table_state.h"
#include "table/unique_writer.h"

namespace mxrec {

void TableState::WriteInverse(uint32_t s, const KeyBatch& batch, int32_t* inverse) const {
  if (inverse == nullptr) return;
  for (size_t j = batch.begin(s); j < batch.end(s); ++j) {
    inverse[batch.position[j]] = static_cast<int32_t>(batch.rank_of[batch.unique_of[j]]);
  }
}

Status TableState::Resolve(KeySpan keys, ResolveMode mode, InsertRequest use, int32_t* inverse,
                           const UniqueAllocator& allocate) {
  NoteGivenAddresses();
  KeyBatch::Ptr batch = mode == ResolveMode::kInsert ? prepared_.Take(keys) : nullptr;
  use.prepared = batch != nullptr;
  if (!use.prepared) {
    batch = KeyBatch::Acquire();
    batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
    if (!ForEachShard(batch->size(), [&](uint32_t s) { batch->Deduplicate(s); })) {
      throw std::bad_alloc();
    }
  }
  const size_t unique = use.prepared ? batch->distinct : batch->Number();
  auto output = allocate(unique);
  if (!output.ok()) return output.status();
  const UniqueRequest request{inverse, output.value()};
  if (mode == ResolveMode::kInsert) {
    use.distinct = unique;
    use.unique = &request;
    return Insert(batch.get(), use);
  }
  ForEachShard(batch->size(), [&](uint32_t s) {
    const SharedLock lock(ShardAt(s).mu);
    FindInShard(ShardAt(s), batch.get(), s);
    const UniqueWriter writer(request.output, batch.get(), format_, dim_, use.absent_row, padding_);
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      const RowRef ref = batch->ref[u];
      if (ref == kNoRow) {
        writer.Write(u, kNoAddress, nullptr);
      } else {
        writer.Write(u, AddressOf(s, ref), ShardAt(s).arena->Row(ref));
      }
    }
    WriteInverse(s, *batch, inverse);
  });
  return {};
}

}  // namespace mxrec
