// TableState: what makes, sets and removes rows.
#include <algorithm>
#include <array>
#include <limits>

#include "admission/key_counters.h"
#include "table/capacity_text.h"
#include "table/table_state.h"
#include "table/unique_writer.h"
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

// Gives every missing unique key a row, if it is admitted. On failure batch->fresh and
// batch->refused tell what UndoInShard must undo.
bool TableState::InsertInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request) {
  Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  KeyCounters* const counters = request.count_use ? shard.counters.get() : nullptr;
  const size_t e = batch->unique_end(s);
  for (size_t u = batch->begin(s); u < e; ++u) {
    if (u + kAhead < e && batch->ref[u + kAhead] == kNoRow) {
      Prefetch(shard.index.HomeBucket(batch->hash[u + kAhead]));
      if (counters != nullptr) counters->Prefetch(batch->hash[u + kAhead]);
    }
    if (batch->ref[u] != kNoRow) continue;
    uint32_t seen = 0;
    if (counters != nullptr) {
      seen = counters->Peek(batch->hash[u], batch->key[u]).count;
      if (!request.makes_rows || !Admits(seen, batch->count[u], request.coefficient)) {
        if (!Refuse(counters, batch, u)) return false;
        shard.misses += batch->count[u];
        continue;
      }
    }
    const RowRef slot = NewRow(&shard, batch->hash[u], batch->key[u]);
    if (slot == kNoRow) return false;
    batch->ref[u] = slot;
    batch->fresh[u] = 1;
    if (tracker_.counts_recent()) tracker_.ForgetRecent(s, slot);
    shard.arena->Meta(slot).frequency = seen;
    float* row = shard.arena->Row(slot);
    if (request.draws_rows) [[likely]] {
      InitializeRow(batch->key[u], nullptr, row);
    } else {
      format_.Identify(batch->key[u], row);
      if (optimizer_ != nullptr) optimizer_->InitSlots(Slots(row), dim_);
    }
    ++shard.inserts;
  }
  return true;
}

// Of one shard. Passed by value, as UniqueWriter is.
class TableState::RowUse {
 public:
  RowUse(TableState& state, uint32_t s, KeyBatch* batch, const InsertRequest& request)
      : tag_(state.tag_),
        shard_(s),
        shard_bits_(state.shard_bits_),
        count_use_(request.count_use),
        now_(request.times.all),
        times_(request.times.each == nullptr ? nullptr : batch->time.data()),
        weight_(state.frozen() ? 0 : request.coefficient),
        counts_(batch->count.data()),
        old_frequency_(batch->old_frequency.data()),
        old_time_(batch->old_time.data()),
        addresses_(batch->address.data()),
        keys_(batch->key.data()),
        tracker_(state.tracker_.active() && request.count_use ? &state.tracker_ : nullptr),
        unique_(request.unique != nullptr),
        writer_(unique_ ? request.unique->output : UniqueOutput{}, batch, state.format_, state.dim_,
                request.absent_row, state.padding_) {}

  bool wants_rows() const { return writer_.wants_rows(); }

  void operator()(size_t u, RowRef ref, RowMeta* meta, const float* row) {
    const int64_t address = Address::Pack(tag_, meta->generation, shard_, ref, shard_bits_);
    addresses_[u] = address;
    if (count_use_) {
      if (tracker_ != nullptr) Track(u, ref, meta, row);
      old_frequency_[u] = meta->frequency;
      old_time_[u] = meta->last_time;
      meta->frequency = AddSaturating(meta->frequency, weight_ * counts_[u]);
      meta->last_time = std::max(meta->last_time, times_ == nullptr ? now_ : times_[u]);
      uses_ += counts_[u];
    }
    if (unique_) writer_.Write(u, address, row);
  }
  // Of a key that was not admitted.
  void Refuse(size_t u) const {
    if (unique_) writer_.Write(u, kNoAddress, nullptr);
  }

  // Occurrences of the keys whose uses were counted.
  int64_t uses() const { return uses_; }

 private:
  void Track(size_t u, RowRef ref, RowMeta* meta, const float* row) const {
    tracker_->Touch(shard_, ref, keys_ + u, meta, row);
    if (tracker_->counts_recent()) tracker_->CountRecent(shard_, ref, counts_[u]);
  }

  const uint32_t tag_;
  const uint32_t shard_;
  const int shard_bits_;
  const bool count_use_;
  const uint32_t now_;
  const uint32_t* const times_;  // by unique key; null: now_
  const uint64_t weight_;        // of an occurrence
  const uint32_t* const counts_;
  uint32_t* const old_frequency_;
  uint32_t* const old_time_;
  int64_t* const addresses_;
  const int64_t* const keys_;
  ChangeTracker* const tracker_;  // null: nobody wants to know
  const bool unique_;
  const UniqueWriter writer_;
  int64_t uses_ = 0;
};

// Finds the unique keys of a shard and uses the rows that are there, each step so far behind the
// one before that what that prefetched has arrived. Returns the uses that it counted.
int64_t TableState::FindAndUse(uint32_t s, KeyBatch* batch, KnownRows known, RowUse use) const {
  struct InFlight {
    const IndexBucket* segment;
    RowMeta* meta;  // null: there is no row
    float* row;
  };
  constexpr size_t kRing = 4 * kAhead;  // a power of two above 2 * kAhead
  std::array<InFlight, kRing> ring;
  const Shard& shard = ShardAt(s);
  SameLock(ShardAt(s).mu, shard.mu);
  const RowArena::View arena = shard.arena->view();
  const KeyIndex::View index = shard.index.view();
  const int shard_bits = shard_bits_;
  const size_t row_bytes = use.wants_rows() ? format_.embedding_bytes() : 0;
  const size_t b = batch->begin(s);
  const size_t n = batch->unique_end(s) - b;
  const uint64_t* hashes = batch->hash.data() + b;
  const int64_t* keys = batch->key.data() + b;
  RowRef* refs = batch->ref.data() + b;
  const uint16_t* generations =
      known == KnownRows::kPlaces ? batch->generation.data() + b : nullptr;
  if (index.directory == nullptr) {
    std::fill_n(refs, n, kNoRow);
    return 0;
  }
  for (size_t i = 0; i < n + 2 * kAhead; ++i) {
    if (i < n && generations != nullptr && refs[i] != kNoRow) {
      ring[i % kRing].segment = nullptr;
      Prefetch(arena.Meta(refs[i]));
      if (row_bytes > 0) PrefetchRange(arena.Row(refs[i]), row_bytes);
    } else if (i < n && known != KnownRows::kRefs) {
      const uint64_t position = PositionOf(hashes[i], shard_bits);
      const IndexBucket* segment = index.directory[position >> index.shift];
      ring[i % kRing].segment = segment;
      Prefetch(segment + KeyIndex::BucketOf(hashes[i]));
    }
    if (i >= kAhead && i < n + kAhead) {
      const size_t u = i - kAhead;
      InFlight& entry = ring[u % kRing];
      bool fetched = false;
      if (generations != nullptr && refs[u] != kNoRow) {
        fetched = arena.Meta(refs[u])->generation == generations[u];
        if (!fetched) {  // evicted, moved or erased since
          const uint64_t position = PositionOf(hashes[u], shard_bits);
          entry.segment = index.directory[position >> index.shift];
        }
      }
      if (known != KnownRows::kRefs && !fetched) {
        refs[u] = KeyIndex::FindIn(entry.segment, hashes[u], keys[u]);
      }
      entry.meta = nullptr;
      if (refs[u] != kNoRow) {
        entry.meta = arena.Meta(refs[u]);
        entry.row = arena.Row(refs[u]);
        if (!fetched) {
          Prefetch(entry.meta);
          if (row_bytes > 0) PrefetchRange(entry.row, row_bytes);
        }
      }
    }
    if (i >= 2 * kAhead) {
      const size_t u = i - 2 * kAhead;
      const InFlight& entry = ring[u % kRing];
      if (entry.meta != nullptr) use(b + u, refs[u], entry.meta, entry.row);
    }
  }
  return use.uses();
}

// Returns the rows taken back.
int64_t TableState::UndoInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request) {
  Shard& shard = ShardAt(s);
  const ExclusiveLock lock(shard.mu);
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
    if (shard.counters != nullptr && request.count_use) UndoRefusal(&shard, batch, u);
  }
  return undone;
}

void TableState::GatherInShard(uint32_t s, const KeyBatch& batch,
                               const InsertRequest& request) const {
  const RowArena& arena = *ShardAt(s).arena;
  const size_t e = batch.end(s);
  const size_t row_bytes = format_.embedding_bytes();
  for (size_t j = batch.begin(s); j < e; ++j) {
    if (j + kAhead < e && batch.ref[batch.unique_of[j + kAhead]] != kNoRow) {
      PrefetchRange(arena.Row(batch.ref[batch.unique_of[j + kAhead]]), row_bytes);
    }
    float* out = request.gather + request.place_of(batch.position[j]) * static_cast<size_t>(dim_);
    const RowRef ref = batch.ref[batch.unique_of[j]];
    if (ref != kNoRow) {
      LoadEmbedding(arena.Row(ref), out);
    } else if (request.absent_row != nullptr) {
      std::copy_n(request.absent_row, dim_, out);
    } else {
      std::fill_n(out, dim_, 0.0f);
    }
  }
}

Status TableState::OutOfMemory(const KeyBatch& batch) const {
  return ResourceExhausted("out of memory while inserting a batch of " +
                           std::to_string(batch.size()) + " keys into table '" + name_ + "' of " +
                           std::to_string(rows()) + " rows; none was inserted");
}

Status TableState::CheckCapacity(KeyBatch* batch, bool deduplicated, uint64_t coefficient) {
  std::atomic<int64_t> missing{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    if (!deduplicated) batch->Deduplicate(s);
    const SharedLock lock(ShardAt(s).mu);
    FindInShard(ShardAt(s), batch, s);
    int64_t here = 0;
    for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
      here += batch->ref[u] == kNoRow && WouldAdmit(ShardAt(s), *batch, u, coefficient);
    }
    missing += here;
  });
  if (!ok) return OutOfMemory(*batch);
  if (rows() + missing <= capacity_) return {};
  counters_.refused_by_capacity += missing;
  return ResourceExhausted("table '" + name_ + "' is full: its capacity is " +
                           std::to_string(capacity_) + " rows, " + std::to_string(rows()) +
                           " are in use and the batch brings " + std::to_string(missing.load()) +
                           " new keys; none was inserted. Raise " + SizesToRaise(tier_ != nullptr) +
                           ", or use dynamic expansion");
}

Status TableState::Insert(KeyBatch* batch, const InsertRequest& request) {
  const bool deduplicated = request.distinct.has_value();
  const bool counted = MayExceedCapacity(request.distinct.value_or(batch->size()));
  const uint64_t admitting = request.makes_rows ? request.coefficient : kAdmitNone;
  const uint64_t coefficient = request.count_use ? admitting : kAdmitAll;
  if (counted) MXREC_RETURN_IF_ERROR(CheckCapacity(batch, deduplicated, coefficient));
  const KnownRows unchecked = request.prepared ? KnownRows::kPlaces : KnownRows::kNothing;
  const KnownRows known = counted ? KnownRows::kRefs : unchecked;
  const bool admission = request.count_use && admission_.on();
  ++batches_;
  std::atomic<bool> failed{false};
  std::atomic<int64_t> inserted{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t b = batch->begin(s);
    if (!failed && !counted && !deduplicated) batch->Deduplicate(s);
    const size_t e = batch->unique_end(s);
    std::fill(batch->fresh.data() + b, batch->fresh.data() + e, 0);
    std::fill(batch->address.data() + b, batch->address.data() + e, kNoAddress);
    if (admission) std::fill(batch->refused.data() + b, batch->refused.data() + e, kNotRefused);
    if (failed) return;
    if (request.times.each != nullptr) FillTimes(s, batch, request);
    Shard& shard = ShardAt(s);
    if (b == e && !shard.HasIdleSlabs()) return;
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(s).mu);
    shard.arena->SetClock(batches_);
    RowUse use(*this, s, batch, request);
    shard.hits += FindAndUse(s, batch, known, use);
    const bool done = InsertInShard(s, batch, request);
    inserted += std::count(batch->fresh.data() + b, batch->fresh.data() + e, 1);
    if (!done) {
      failed = true;
      return;
    }
    for (size_t u = b; u < e; ++u) {
      const RowRef ref = batch->ref[u];
      if (batch->fresh[u] != 0) {
        use(u, ref, &shard.arena->Meta(ref), shard.arena->Row(ref));
      } else if (ref == kNoRow) {
        use.Refuse(u);
      }
    }
    shard.misses += use.uses();
    if (request.unique != nullptr) WriteInverse(s, *batch, request.unique->inverse);
    if (request.gather != nullptr) GatherInShard(s, *batch, request);
  });
  rows_ += inserted;
  if (ok && !failed) {
    if (admission) CommitCounts(batch, request);
    if (request.count_use) counters_.admitted += inserted;
    return {};
  }
  for (uint32_t s = 0; s < shards(); ++s) rows_ -= UndoInShard(s, batch, request);
  return OutOfMemory(*batch);
}

int64_t TableState::Erase(KeyBatch* batch) {
  ++batches_;
  std::atomic<int64_t> erased{0};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t e = batch->end(s);
    Shard& shard = ShardAt(s);
    if (batch->begin(s) == e && !shard.HasIdleSlabs()) return;
    const ExclusiveLock lock(shard.mu);
    SameLock(shard.mu, ShardAt(s).mu);
    shard.arena->SetClock(batches_);
    int64_t here = EraseSpilled(s, *batch);
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
        if (tracker_.active()) {
          tracker_.Remove(s, batch->occurrence_key(i), batch->ref[i],
                          shard.arena->Meta(batch->ref[i]), shard.arena->Row(batch->ref[i]));
        }
        shard.arena->Free(batch->ref[i], batch->occurrence_key(i));
        ForgetAddresses(s, batch->occurrence_key(i));
        if (!shard.reprieved.empty()) shard.reprieved.erase(batch->ref[i]);
        ++here;
      }
    }
    for (size_t j = batch->begin(s); shard.counters != nullptr && j < e; ++j) {
      ForgetCount(s, batch->hash[j], batch->occurrence_key(j));
    }
    shard.erased += here;
    erased += here;
  });
  rows_ -= erased;
  if (!ok) throw std::bad_alloc();
  return erased;
}

// The rows on SSD are not read for it, so those that cannot be read go as well.
int64_t TableState::EraseSpilled(uint32_t s, const KeyBatch& batch) {
  if (tier_ == nullptr || SpilledOf(s).size() == 0) return 0;
  std::vector<Entry> going;
  for (size_t j = batch.begin(s); j < batch.end(s); ++j) {
    const int64_t key = batch.occurrence_key(j);
    SpilledRow* const row = FindSpilled(s, HashKey(key), key);
    if (row != nullptr) going.push_back({key, kNoRow, row});
  }
  std::ranges::sort(going, {}, &Entry::key);
  const auto again = std::ranges::unique(going, {}, &Entry::key);
  going.erase(again.begin(), again.end());
  RemoveSpilled(s, going);
  return static_cast<int64_t>(going.size());
}

}  // namespace mxrec
