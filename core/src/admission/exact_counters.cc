#include "admission/exact_counters.h"

#include <algorithm>
#include <new>
#include <utility>

namespace mxrec {

ExactCounters::ExactCounters(PageAllocator* pages, int shard_bits)
    : pages_(pages), index_(pages, shard_bits), shard_bits_(shard_bits) {}

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
      changed_.Grow((slabs_.size() + 1) * kSlabCounts);
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

void ExactCounters::Commit(uint64_t hash, int64_t key, uint32_t place, uint32_t more,
                           uint32_t time) {
  Touch(hash, key, place);
  KeyCount& at = At(place);
  at.count = AddSaturating(at.count, more);
  at.last_time = std::max(at.last_time, time);
}

void ExactCounters::Forget(uint64_t hash, int64_t key) {
  const uint32_t place = index_.Erase(hash, key);
  if (place == kNoRow) return;
  Touch(hash, key, place);
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

int64_t ExactCounters::ForgetOld(uint32_t cutoff, uint64_t* position, std::vector<int64_t>* gone) {
  int64_t seen = 0;
  std::vector<int64_t> old;
  *position = index_.VisitSegment(*position, [&](int64_t key, RowRef place) {
    ++seen;
    if (IsOld(place, cutoff)) old.push_back(key);
  });
  if (gone != nullptr) gone->insert(gone->end(), old.begin(), old.end());
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

KeyCounters::Loaded ExactCounters::Load(const RowBlock& block, size_t row, bool replaces) {
  const int64_t key = block.keys[row];
  bool fresh;
  const uint32_t place = Reserve(HashKey(key), key, &fresh);
  if (place == kNothing) return Loaded::kNoMemory;
  if (!fresh && !replaces) return Loaded::kTwice;
  At(place) = {block.frequency[row], block.last_time[row]};
  return Loaded::kDone;
}

// --- Saving -------------------------------------------------------------------------------------

bool ExactCounters::Track(bool on) { return changed_.Track(on, slabs_.size() * kSlabCounts); }

KeyCount ExactCounters::SavedCount(int64_t key, uint32_t place) {
  const KeyCount& now = At(place);
  const bool old = part_.cutoff.has_value() && now.last_time <= *part_.cutoff &&
                   !reprieved_then_.contains(place);
  if (old) {
    if (part_.delta && now.count > 0) expired_then_.push_back(key);
    return {};
  }
  if (part_.delta && !changed_.Then(place)) return {};
  return now;
}

void ExactCounters::Touch(uint64_t hash, int64_t key, uint32_t place) {
  changed_.Mark(place);
  if (!saving_ || PositionOf(hash, shard_bits_) < scanned_) return;
  try {
    if (!replaced_.contains(key)) replaced_.emplace(key, SavedCount(key, place));
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
}

void ExactCounters::BeginSave(const SavedPart& part) {
  if (part.cutoff.has_value()) reprieved_then_ = reprieved_;
  changed_.BeginSave();
  part_ = part;
  scanned_ = 0;
  lost_ = false;
  saving_ = true;
}

void ExactCounters::ScanSaved(uint64_t* position, RowBlock* block) {
  constexpr uint64_t kEnd = uint64_t{1} << 32;
  const auto write = [&](int64_t key, const KeyCount& count) {
    if (count.count == 0) return;
    block->keys.push_back(key);
    block->frequency.push_back(count.count);
    block->last_time.push_back(count.last_time);
  };
  *position = index_.VisitSegment(*position, [&](int64_t key, RowRef place) {
    const auto replaced = replaced_.find(key);
    if (replaced == replaced_.end()) {
      write(key, SavedCount(key, place));
    } else {
      write(key, replaced->second);
      replaced_.erase(replaced);
    }
  });
  scanned_ = *position;
  if (*position < kEnd) return;
  for (const auto& [key, count] : replaced_) write(key, count);  // forgotten since
  replaced_.clear();
}

void ExactCounters::AddExpired(std::vector<int64_t>* keys) const {
  keys->insert(keys->end(), expired_then_.begin(), expired_then_.end());
}

void ExactCounters::EndSave(bool follows) {
  if (!saving_) return;
  saving_ = false;
  changed_.EndSave(follows);
  std::unordered_set<uint32_t>().swap(reprieved_then_);
  std::vector<int64_t>().swap(expired_then_);
  std::unordered_map<int64_t, KeyCount>().swap(replaced_);
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
