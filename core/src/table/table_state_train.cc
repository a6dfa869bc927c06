// TableState: the lookup of numpy-level training, which wants rows and counts, no unique keys.
#include <algorithm>
#include <atomic>
#include <limits>
#include <new>

#include "kernels/row_copier.h"
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 48;  // a range has but a few dozen rows of a shard

void Use(RowMeta* meta, uint64_t count, uint32_t now) {
  meta->frequency = AddSaturating(meta->frequency, count);
  meta->last_time = std::max(meta->last_time, now);
}

}  // namespace

// Reads the rows that are there. Leaves in used_ and hot_used_ what was used and what is missing.
void TableState::ReadAndCollect(KeySpan keys, const float* absent_row, float* out,
                                bool* out_of_memory) {
  const Locks locks = LockAllShared();
  ReadView view;
  MakeReadView(shards_, shard_bits_, hot_, &view);
  const size_t hot_places = view.hot.keys == nullptr ? 0 : hot_.places();
  const size_t n = keys.size();
  WorkerPool& pool = WorkerPool::Get();
  const size_t ranges =
      std::clamp<size_t>(n / kParallelKeys, 1, 4 * static_cast<size_t>(pool.num_threads()));
  used_.resize(ranges);
  hot_used_.resize(shards());
  const kernels::RowCopier copy = format_.ChooseCopier(n);
  std::atomic<bool> failed{false};
  pool.Run(ranges, [&](size_t r) {
    try {
      used_[r].Clear(static_cast<int>(shards()), hot_places);
      const size_t begin = n * r / ranges, end = n * (r + 1) / ranges;
      const ReadResult read = ReadRange(view, keys, begin, end, copy, dim_,
                                        format_.embedding_bytes(), absent_row, out, &used_[r]);
      // New keys say nothing about which of the old ones are popular.
      if (hot_.enabled()) sampler_.Observe(read.found, read.hot);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  });
  *out_of_memory = failed;
  if (failed) return;
  // While the locks are held: a place may be given to another row afterwards.
  for (auto& uses : hot_used_) uses.clear();
  for (size_t place = 0; place < hot_places; ++place) {
    uint32_t count = 0;
    for (const UsedRows& used : used_) count += used.hot_uses[place];
    if (count == 0) continue;
    const HotRows::Owner owner = hot_.owner(place);
    hot_used_[owner.shard].push_back({owner.ref, count});
  }
}

// Frequency and time of the rows that ReadAndCollect found.
void TableState::UseCollected(const InsertRequest& use) {
  const uint64_t weight = frozen_ ? 0 : use.coefficient;
  const uint32_t now = use.times.all;
  size_t keys = 0;
  for (const UsedRows& used : used_) {
    for (uint32_t s = 0; s < shards(); ++s) keys += used.refs[s].size();
  }
  ForEachShard(keys, [&](uint32_t s) {
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    shard.arena->SetClock(batches_);
    const auto track = [&](RowRef ref, uint32_t count) MXREC_REQUIRES(shard.mu) {
      tracker_.Touch(s, ref, nullptr, &shard.arena->Meta(ref), shard.arena->Row(ref));
      if (tracker_.counts_recent()) tracker_.CountRecent(s, ref, count);
    };
    for (const UsedRows& used : used_) {
      const std::vector<RowRef>& refs = used.refs[s];
      for (size_t i = 0; i < refs.size(); ++i) {
        if (i + kAhead < refs.size()) Prefetch(&shard.arena->Meta(refs[i + kAhead]));
        if (tracker_.active()) track(refs[i], 1);
        Use(&shard.arena->Meta(refs[i]), weight, now);
      }
      shard.hits += static_cast<int64_t>(refs.size());
    }
    for (const HotRows::Use& hot : hot_used_[s]) {
      if (tracker_.active()) track(hot.ref, hot.count);
      Use(&shard.arena->Meta(hot.ref), weight * hot.count, now);
      shard.hits += hot.count;
      counters_.hot_hits.fetch_add(hot.count, std::memory_order_relaxed);
    }
  });
}

Status TableState::ReadOrInsert(KeySpan keys, const InsertRequest& use, float* out) {
  InsertRequest request = use;
  request.gather = out;
  if (use.times.each != nullptr) {
    // A key's times are those of its occurrences: they are brought together first.
    KeyBatch::Ptr batch = KeyBatch::Acquire();
    batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
    return Insert(batch.get(), request);
  }
  bool out_of_memory = false;
  ReadAndCollect(keys, use.absent_row, out, &out_of_memory);
  if (out_of_memory) throw std::bad_alloc();
  std::vector<uint32_t> positions;
  for (const UsedRows& used : used_) {
    positions.insert(positions.end(), used.missing.begin(), used.missing.end());
  }
  if (positions.empty()) {
    ++batches_;
  } else {
    std::vector<int64_t> missing(positions.size());
    for (size_t i = 0; i < missing.size(); ++i) missing[i] = keys[positions[i]];
    KeyBatch::Ptr batch = KeyBatch::Acquire();
    batch->Partition(missing, shard_bits_, KeyBatch::Grouping::kKeys);
    request.positions = positions.data();
    MXREC_RETURN_IF_ERROR(Insert(batch.get(), request));
  }
  // Nothing can fail any more.
  UseCollected(use);
  RefreshHotRows(keys);
  return {};
}

}  // namespace mxrec
