#include "admission/exact_counters.h"

#include <algorithm>
#include <new>
#include <utility>

namespace mxrec {

ExactCounters::ExactCounters(PageAllocator* pages, int shard_bits)
    : pages_(pages), index_(pages, shard_bits) {}

ExactCounters::~ExactCounters() {
  for (const Slab& slab : slabs_) {
    if (slab.counts != nullptr) pages_->Free(slab.counts, KeyIndex::kSegmentBytes);
  }
}

KeyCount ExactCounters::Peek(uint64_t hash, int64_t key) const {
  const uint32_t place = index_.Find(hash, key);
  return place == kNoRow ? KeyCount{} : At(place);
}

uint32_t ExactCounters::TakePlace() {
  // The lowest slab that has room, so that the others empty out.
  for (; lowest_ < slabs_.size(); ++lowest_) {
    const Slab& slab = slabs_[lowest_];
    if (slab.counts == nullptr || slab.first_free != kNothing || slab.fresh < kSlabCounts) break;
  }
  if (lowest_ == slabs_.size()) {
    try {
      slabs_.emplace_back();
    } catch (const std::bad_alloc&) {
      return kNothing;
    }
  }
  Slab& slab = slabs_[lowest_];
  if (slab.counts == nullptr) {
    const bool huge = lowest_ > 0;
    slab.counts = static_cast<KeyCount*>(
        pages_->Allocate(KeyIndex::kSegmentBytes, huge, PageAllocator::Contents::kAny));
    if (slab.counts == nullptr) return kNothing;
    slab.first_free = kNothing;
    slab.fresh = 0;
  }
  uint32_t within = slab.first_free;
  if (within == kNothing) {
    within = slab.fresh++;
  } else {
    slab.first_free = slab.counts[within].count;
  }
  ++slab.live;
  slab.counts[within] = {};
  return lowest_ * kSlabCounts + within;
}

void ExactCounters::FreePlace(uint32_t place) {
  const uint32_t number = place / kSlabCounts;
  Slab& slab = slabs_[number];
  lowest_ = std::min(lowest_, number);
  if (--slab.live == 0) {
    pages_->Free(std::exchange(slab.counts, nullptr), KeyIndex::kSegmentBytes);
    return;
  }
  slab.counts[place % kSlabCounts].count = slab.first_free;
  slab.first_free = place % kSlabCounts;
}

uint32_t ExactCounters::Reserve(uint64_t hash, int64_t key, bool* fresh) {
  *fresh = false;
  uint32_t place = index_.Find(hash, key);
  if (place != kNoRow) return place;
  place = TakePlace();
  if (place == kNothing) return kNothing;
  if (!index_.Insert(hash, key, place)) {
    FreePlace(place);
    return kNothing;
  }
  *fresh = true;
  return place;
}

void ExactCounters::Commit(uint64_t /*hash*/, uint32_t place, uint32_t more, uint32_t time) {
  KeyCount& at = At(place);
  at.count = AddSaturating(at.count, more);
  at.last_time = std::max(at.last_time, time);
}

void ExactCounters::Forget(uint64_t hash, int64_t key) {
  const uint32_t place = index_.Erase(hash, key);
  if (place == kNoRow) return;
  reprieved_.erase(place);
  FreePlace(place);
}

bool ExactCounters::Old(uint64_t hash, int64_t key, uint32_t cutoff) const {
  const uint32_t place = index_.Find(hash, key);
  return place != kNoRow && IsOld(place, cutoff);
}

void ExactCounters::Reprieve(uint64_t hash, int64_t key) {
  const uint32_t place = index_.Find(hash, key);
  if (place != kNoRow) reprieved_.insert(place);
}

int64_t ExactCounters::ForgetOld(uint32_t cutoff, uint64_t* position) {
  int64_t seen = 0;
  std::vector<int64_t> old;
  *position = index_.VisitSegment(*position, [&](int64_t key, RowRef place) {
    ++seen;
    if (IsOld(place, cutoff)) old.push_back(key);
  });
  for (const int64_t key : old) Forget(HashKey(key), key);
  return seen;
}

void ExactCounters::Scan(std::optional<uint32_t> cutoff, uint64_t* position,
                         RowBlock* block) const {
  *position = index_.VisitSegment(*position, [&](int64_t key, RowRef place) {
    if (cutoff.has_value() && IsOld(place, *cutoff)) return;
    block->keys.push_back(key);
    block->frequency.push_back(At(place).count);
    block->last_time.push_back(At(place).last_time);
  });
}

KeyCounters::Loaded ExactCounters::Load(const RowBlock& block, size_t row) {
  const int64_t key = block.keys[row];
  bool fresh;
  const uint32_t place = Reserve(HashKey(key), key, &fresh);
  if (place == kNothing) return Loaded::kNoMemory;
  if (!fresh) return Loaded::kTwice;
  At(place) = {block.frequency[row], block.last_time[row]};
  return Loaded::kDone;
}

int64_t ExactCounters::page_bytes() const {
  int64_t slabs = 0;
  for (const Slab& slab : slabs_) slabs += slab.counts != nullptr;
  return index_.segment_bytes() + slabs * static_cast<int64_t>(KeyIndex::kSegmentBytes);
}

int64_t ExactCounters::bytes() const {
  return page_bytes() + index_.bytes() - index_.segment_bytes() +
         static_cast<int64_t>(slabs_.capacity() * sizeof(Slab));
}

}  // namespace mxrec
