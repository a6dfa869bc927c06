#include "arena/row_arena.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mxrec {
namespace {

constexpr uint64_t kRestingBatches = 2;
constexpr uint16_t kLastGeneration = 0xFFFE;

size_t StrideOf(int row_floats) {
  const size_t bytes = static_cast<size_t>(row_floats) * sizeof(float);
  if (bytes <= 8) return 8;  // a freed slot keeps its key
  return (bytes + 15) / 16 * 16;
}

// Rows per slab: a power of two, so that a slot splits by a shift, and whole huge pages.
int SlabShift(size_t stride) {
  int shift = 6;
  while (((stride << shift) % kHugePage) != 0) ++shift;
  return shift;
}

}  // namespace

RowArena::RowArena(PageAllocator* pages, int row_floats)
    : pages_(pages), stride_(StrideOf(row_floats)), shift_(SlabShift(stride_)) {
  mask_ = (1u << shift_) - 1;
}

RowArena::~RowArena() {
  const size_t rows = size_t{1} << shift_;
  for (const Slab& slab : slabs_) {
    pages_->Free(slab.rows, rows * stride_);
    pages_->Free(slab.metas, rows * sizeof(RowMeta));
  }
}

bool RowArena::AddSlab() {
  const size_t rows = size_t{1} << shift_;
  const bool huge = !slabs_.empty();
  char* row_memory = static_cast<char*>(pages_->Allocate(rows * stride_, huge));
  if (row_memory == nullptr) return false;
  auto* metas = static_cast<RowMeta*>(pages_->Allocate(rows * sizeof(RowMeta), huge));
  if (metas == nullptr) {
    pages_->Free(row_memory, rows * stride_);
    return false;
  }
  if (slabs_.size() == 1) PromoteToHugePages(slabs_[0].rows, rows * stride_);
  slabs_.push_back({row_memory, metas});
  return true;
}

uint32_t RowArena::Allocate() {
  uint32_t slot;
  if (!free_.empty() && free_.front().since + kRestingBatches <= clock_) {
    slot = free_.front().slot;
    free_.pop_front();
  } else {
    if (slots_ == kMaxSlots) return kNoSlot;
    if ((slots_ >> shift_) == slabs_.size() && !AddSlab()) return kNoSlot;
    slot = slots_++;
  }
  RowMeta& meta = Meta(slot);
  meta = {0, 0, static_cast<uint16_t>(meta.generation + 1), 0};
  return slot;
}

void RowArena::Free(uint32_t slot, int64_t key) {
  ++Meta(slot).generation;
  std::memcpy(Row(slot), &key, sizeof(key));
  if (Meta(slot).generation < kLastGeneration) free_.push_back({slot, clock_});
}

int64_t RowArena::DepartedKey(uint32_t slot) const {
  int64_t key;
  std::memcpy(&key, Row(slot), sizeof(key));
  return key;
}

bool RowArena::CopySlotsTo(RowArena* target, int floats) const {
  while ((static_cast<uint64_t>(target->slabs_.size()) << target->shift_) < slots_) {
    if (!target->AddSlab()) return false;
  }
  target->slots_ = slots_;
  target->clock_ = clock_;
  target->free_ = free_;
  for (uint32_t slot = 0; slot < slots_; ++slot) {
    // At least the departed key of a free slot.
    const size_t bytes = std::max<size_t>(floats * sizeof(float), sizeof(int64_t));
    std::memcpy(target->Row(slot), Row(slot), bytes);
    target->Meta(slot) = Meta(slot);
  }
  return true;
}

int64_t RowArena::row_bytes() const {
  if (slabs_.size() > 1) {
    return static_cast<int64_t>(((slots_ * stride_) + kHugePage - 1) / kHugePage * kHugePage);
  }
  return static_cast<int64_t>(slots_ * stride_);
}

int64_t RowArena::meta_bytes() const {
  return static_cast<int64_t>(slots_ * sizeof(RowMeta) + slabs_.capacity() * sizeof(Slab) +
                              free_.size() * sizeof(Resting));
}

}  // namespace mxrec
