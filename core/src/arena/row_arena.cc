#include "arena/row_arena.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace mxrec {
namespace {

constexpr uint16_t kLastGeneration = 0xFFFE;
// Small enough that growing many shards wastes little and that slabs empty out; large enough that
// the array of slabs stays in the cache.
constexpr size_t kSlabBytes = size_t{256} << 10;
constexpr uint32_t kLeastSlabRows = 16;
// Slabs that one batch gives back: many may fall idle together, and returning memory takes time.
constexpr int kReleasedAtOnce = 32;

size_t StrideOf(int row_floats) {
  const size_t bytes = static_cast<size_t>(row_floats) * sizeof(float);
  if (bytes <= 8) return 8;  // a freed slot keeps its key
  return (bytes + 15) / 16 * 16;
}

// A power of two, so that a slot splits by a shift.
uint32_t SlabRows(size_t stride, uint32_t most) {
  const auto rows = static_cast<uint32_t>(std::bit_floor(std::max<size_t>(kSlabBytes / stride, 1)));
  return std::clamp(rows, kLeastSlabRows, most);
}

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

RowMeta RowArena::no_metas_[kMostSlabRows];

RowArena::RowArena(PageAllocator* pages, int row_floats)
    : pages_(pages), stride_(StrideOf(row_floats)) {
  SetShift(std::countr_zero(SlabRows(stride_, kMostSlabRows)));
}

RowArena::~RowArena() {
  for (const Slab& slab : slabs_) {
    if (slab.held()) pages_->Free(slab.rows, slab_bytes());
  }
}

void RowArena::SetShift(int shift) {
  shift_ = shift;
  mask_ = (1u << shift) - 1;
}

bool RowArena::GiveMemory(uint32_t slab) {
  // The first slab, on small pages, is not touched before it is used.
  const bool huge = slab > 0;
  const auto contents = huge ? PageAllocator::Contents::kAny : PageAllocator::Contents::kZero;
  auto* rows = static_cast<char*>(pages_->Allocate(slab_bytes(), huge, contents));
  if (rows == nullptr) return false;
  auto* metas = reinterpret_cast<RowMeta*>(rows + meta_offset());
  State& state = states_[slab];
  if (huge || state.floor > 0) std::fill_n(metas, slab_rows(), RowMeta{0, 0, state.floor, 0});
  slabs_[slab] = {rows, metas};
  state.highest = state.floor;
  ++held_slabs_;
  ++idle_slabs_;
  return true;
}

void RowArena::Release(uint32_t slab) {
  State& state = states_[slab];
  pages_->Free(slabs_[slab].rows, slab_bytes());
  slabs_[slab] = {};
  // Above what a slot at rest has, so that no address seems to be of the row that just left.
  const int floor = std::min(state.highest + 2, static_cast<int>(kLastGeneration));
  queued_ -= state.queued;
  if (state.draining) --draining_;
  std::vector<MovedRow> moved = std::move(state.moved);
  state = {};
  state.floor = static_cast<uint16_t>(floor);
  state.moved = std::move(moved);
  --held_slabs_;
  --idle_slabs_;
  if (open_ == slab) open_ = kNoSlot;
}

bool RowArena::OpenSlab() {
  uint32_t slab = 0;
  if (held_slabs_ < slabs_.size()) {
    while (slab < slabs_.size() &&
           (slabs_[slab].held() || states_[slab].floor >= kLastGeneration)) {
      ++slab;
    }
  } else {
    slab = static_cast<uint32_t>(slabs_.size());
  }
  if (slab == slabs_.size()) {
    if (slots() >= kMaxSlots) return false;
    try {
      if (slabs_.size() == slabs_.capacity()) slabs_.reserve(slabs_.size() * 2 + 1);
      states_.emplace_back();
    } catch (const std::bad_alloc&) {
      return false;
    }
    slabs_.emplace_back();
  }
  if (!GiveMemory(slab)) return false;
  open_ = slab;
  return true;
}

void RowArena::SetClock(uint32_t batches) {
  if (batches == clock_) return;
  clock_ = batches;
  recycled_ = 0;
  if (remembers_ && clock_ - moved_at_ >= kMoveBatches) {
    for (State& state : states_) std::vector<MovedRow>().swap(state.moved);
    remembers_ = false;
  }
  int released = 0;
  for (uint32_t slab = 0; idle_slabs_ > 0 && slab < slabs_.size(); ++slab) {
    const State& state = states_[slab];
    const bool idle = slabs_[slab].held() && state.live == 0;
    if (!idle || !Rested(state.last_freed_at)) continue;
    Release(slab);
    if (++released == kReleasedAtOnce) return;
  }
}

uint32_t RowArena::TakeFree(uint32_t slab, bool rested) {
  State& state = states_[slab];
  const uint32_t first = state.first_free;
  if (first == kNoSlot || state.draining) return kNoSlot;
  const RowMeta& meta = slabs_[slab].metas[first];
  if (rested && !Rested(meta.frequency)) return kNoSlot;
  state.first_free = meta.last_time;
  if (state.first_free == kNoSlot) state.last_free = kNoSlot;
  --state.queued;
  --queued_;
  return first;
}

uint32_t RowArena::Allocate() { return Take(true); }

uint32_t RowArena::Take(bool rested) {
  uint32_t slab = kNoSlot;
  uint32_t within = kNoSlot;
  // The lowest slab that has one, so that the others empty out.
  uint32_t& lowest = rested ? recycled_ : filled_;
  for (; queued_ > 0 && lowest < slabs_.size(); ++lowest) {
    within = TakeFree(lowest, rested);
    if (within == kNoSlot) continue;
    slab = lowest;
    break;
  }
  if (slab == kNoSlot) {
    const bool full = open_ == kNoSlot || states_[open_].fresh == slab_rows();
    if (full && !OpenSlab()) return kNoSlot;
    slab = open_;
    within = states_[slab].fresh++;
  }
  if (states_[slab].live++ == 0) --idle_slabs_;
  RowMeta& meta = slabs_[slab].metas[within];
  meta = {0, 0, static_cast<uint16_t>(meta.generation + 1), fresh_stamp_};
  return (slab << shift_) | within;
}

void RowArena::Free(uint32_t slot, int64_t key) {
  const uint32_t slab = slot >> shift_;
  const uint32_t within = slot & mask_;
  State& state = states_[slab];
  RowMeta& meta = Meta(slot);
  std::memcpy(Row(slot), &key, sizeof(key));
  ++meta.generation;
  state.highest = std::max(state.highest, meta.generation);
  state.last_freed_at = clock_;
  if (--state.live == 0) ++idle_slabs_;
  if (meta.generation >= kLastGeneration) return;
  meta.last_time = kNoSlot;
  meta.frequency = clock_;
  if (state.last_free == kNoSlot) {
    state.first_free = within;
  } else {
    slabs_[slab].metas[state.last_free].last_time = within;
  }
  state.last_free = within;
  ++state.queued;
  ++queued_;
}

int64_t RowArena::BeginDrain() {
  const uint32_t rows = slab_rows();
  uint64_t live = 0;
  for (const State& state : states_) live += state.live;
  // What the rows need, and a tenth more for rows to come meanwhile.
  const uint64_t needed = (live + live / 10 + rows - 1) / rows + 1;
  if (held_slabs_ < 4 || needed * 2 > held_slabs_) return 0;
  int64_t moves = 0;
  uint64_t kept = 0;
  for (uint32_t slab = 0; slab < slabs_.size(); ++slab) {
    if (!slabs_[slab].held() || kept++ < needed)
      continue;  // the lowest stay: pages empty from above
    states_[slab].draining = true;
    ++draining_;
    moves += states_[slab].live;
    if (open_ == slab) open_ = kNoSlot;
  }
  filled_ = 0;
  return moves;
}

uint32_t RowArena::Move(uint32_t slot, int64_t key) {
  std::vector<MovedRow>& moved = states_[slot >> shift_].moved;
  try {
    if (moved.size() == moved.capacity()) {
      moved.reserve(moved.size() + states_[slot >> shift_].live);
    }
  } catch (const std::bad_alloc&) {
    return kNoSlot;
  }
  const uint32_t to = Take(false);
  if (to == kNoSlot) return kNoSlot;
  std::memcpy(Row(to), Row(slot), stride_);
  const RowMeta& old = Meta(slot);
  RowMeta& meta = Meta(to);
  meta = {old.last_time, old.frequency, meta.generation, old.stamp};
  // Taking a slot may have moved states_.
  states_[slot >> shift_].moved.push_back({slot, old.generation, key});
  remembers_ = true;
  moved_at_ = clock_;
  Free(slot, key);
  return to;
}

void RowArena::EndDrain() {
  for (State& state : states_) state.draining = false;
  draining_ = 0;
  recycled_ = 0;
}

void RowArena::ReleaseIdle() {
  for (uint32_t slab = 0; idle_slabs_ > 0 && slab < slabs_.size(); ++slab) {
    if (slabs_[slab].held() && states_[slab].live == 0) Release(slab);
  }
}

bool RowArena::MovedKey(uint32_t slot, uint16_t generation, int64_t* key) const {
  // A slab that was drained was sparse: there are few.
  for (const MovedRow& moved : states_[slot >> shift_].moved) {
    if (moved.slot != slot || moved.generation != generation) continue;
    *key = moved.key;
    return true;
  }
  return false;
}

bool RowArena::DepartedKey(uint32_t slot, uint16_t generation, int64_t* key) const {
  if (slabs_[slot >> shift_].held() && Meta(slot).generation == generation + 1) {
    std::memcpy(key, Row(slot), sizeof(*key));
    return true;
  }
  return MovedKey(slot, generation, key);
}

bool RowArena::CopySlotsTo(RowArena* target, int floats) const {
  // At least the departed key of a free slot.
  const size_t bytes = std::max<size_t>(floats * sizeof(float), sizeof(int64_t));
  target->SetShift(shift_);
  try {
    target->slabs_.assign(slabs_.size(), Slab{});
    target->states_ = states_;
  } catch (const std::bad_alloc&) {
    return false;
  }
  for (uint32_t slab = 0; slab < slabs_.size(); ++slab) {
    if (!slabs_[slab].held()) continue;
    if (!target->GiveMemory(slab)) return false;
    const Slab& to = target->slabs_[slab];
    target->states_[slab].highest = states_[slab].highest;
    for (size_t within = 0; within < states_[slab].fresh; ++within) {
      std::memcpy(to.rows + within * target->stride_, slabs_[slab].rows + within * stride_, bytes);
    }
    std::copy_n(slabs_[slab].metas, states_[slab].fresh, to.metas);
  }
  target->clock_ = clock_;
  target->fresh_stamp_ = fresh_stamp_;
  target->open_ = open_;
  target->recycled_ = recycled_;
  target->idle_slabs_ = idle_slabs_;
  target->queued_ = queued_;
  target->draining_ = draining_;
  target->remembers_ = remembers_;
  target->moved_at_ = moved_at_;
  return true;
}

std::pair<size_t, size_t> RowArena::Untouched() const {
  if (slabs_.empty() || !slabs_[0].held()) return {0, 0};
  const size_t fresh = states_[0].fresh;
  const size_t rows = RoundUp(fresh * stride_, kSmallPage);
  const size_t metas = RoundUp(fresh * sizeof(RowMeta), kSmallPage);
  const size_t all_metas = slab_bytes() - meta_offset();
  return {meta_offset() - std::min(rows, meta_offset()), all_metas - std::min(metas, all_metas)};
}

int64_t RowArena::row_bytes() const {
  return static_cast<int64_t>(held_slabs_ * meta_offset() - Untouched().first);
}

int64_t RowArena::meta_bytes() const {
  const size_t tracking = slabs_.capacity() * sizeof(Slab) + states_.capacity() * sizeof(State);
  const size_t metas = held_slabs_ * (slab_bytes() - meta_offset());
  size_t moved = 0;
  for (const State& state : states_) moved += state.moved.capacity() * sizeof(MovedRow);
  return static_cast<int64_t>(metas - Untouched().second + tracking + moved);
}

int64_t RowArena::held_bytes() const { return static_cast<int64_t>(held_slabs_ * slab_bytes()); }

}  // namespace mxrec
