// SpilledRows: of one shard, the keys whose rows lie on SSD, with where they lie and everything of
// a row that decisions are made by: a row is read only when its values are wanted.
//
// Not thread-safe: the shard's lock guards it; const methods may run concurrently.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "arena/row_arena.h"
#include "index/key_index.h"

namespace mxrec {

struct SpilledRow {
  uint32_t location : 31 = 0;  // in the SSD log
  uint32_t large : 1 = 0;      // its norm is known to be SsdTier::known_norm or more
  uint32_t frequency = 0;
  uint32_t last_time = 0;
  uint16_t stamp = 0;     // RowMeta::stamp
  uint16_t reprieve = 0;  // the sweep that left the row alone (EvictionSweep::number); 0: none

  // As ChangeTracker takes it.
  RowMeta meta() const { return {last_time, frequency, 0, stamp}; }
};
static_assert(sizeof(SpilledRow) == 16);

class SpilledRows {
 public:
  SpilledRows(PageAllocator* pages, int shard_bits) : index_(pages, shard_bits) {}

  uint64_t size() const { return index_.size(); }
  const IndexBucket* HomeBucket(uint64_t hash) const { return index_.HomeBucket(hash); }
  // Null: the key's row is not on SSD. The row stays where it is until it is erased.
  SpilledRow* Find(uint64_t hash, int64_t key) {
    const RowRef at = index_.Find(hash, key);
    return at == kNoRow ? nullptr : &At(at);
  }
  const SpilledRow* Find(uint64_t hash, int64_t key) const {
    return const_cast<SpilledRows*>(this)->Find(hash, key);
  }
  // Precondition: the key is absent. False: no memory; nothing has changed.
  bool Insert(uint64_t hash, int64_t key, const SpilledRow& row);
  void Erase(uint64_t hash, int64_t key);  // precondition: the key is there

  // As those of KeyIndex; visit(key, SpilledRow*).
  template <class Visit>
  uint64_t VisitSegment(uint64_t position, Visit&& visit) const {
    return index_.VisitSegment(position, [&](int64_t key, RowRef at) {
      visit(key, &const_cast<SpilledRows*>(this)->At(at));
    });
  }
  uint64_t SegmentEnd(uint64_t position) const { return index_.SegmentEnd(position); }

  int64_t bytes() const {
    return index_.bytes() + static_cast<int64_t>(chunks_.size() * kChunk * sizeof(SpilledRow) +
                                                 chunks_.capacity() * sizeof(void*));
  }

 private:
  static constexpr uint32_t kChunk = 4096;
  SpilledRow& At(RowRef at) { return chunks_[at / kChunk][at % kChunk]; }

  KeyIndex index_;  // of places in chunks_
  std::vector<std::unique_ptr<SpilledRow[]>> chunks_;
  uint32_t used_ = 0;
  static constexpr uint32_t kNoPlace = 0x7FFFFFFF;
  uint32_t first_free_ = kNoPlace;  // SpilledRow::location of a free place is the next one
};

}  // namespace mxrec
