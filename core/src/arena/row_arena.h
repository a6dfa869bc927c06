// RowArena: the rows of one shard, in slabs, with their metadata beside them.
//
// A row stays in its slot until it is freed. Freeing leaves the key in the slot's memory, and the
// slot rests for two training batches before it is used again, so that an address carried from
// forward to backward can still be traced to its key.
//
// Invariants:
//  1. A slot's generation is odd while it holds a row, even while it does not; it only grows.
//  2. A slot whose generation would wrap is retired.
//
// Not thread-safe: the shard's lock guards it; const methods may run concurrently.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "util/page_allocator.h"

namespace mxrec {

struct RowMeta {
  uint32_t last_time;  // seconds of the last training use, 0: never
  uint32_t frequency;  // training occurrences, saturating
  uint16_t generation;
  uint16_t dirty_epoch;  // of the last change, for incremental checkpoints
};
static_assert(sizeof(RowMeta) == 12);

class RowArena {
 public:
  static constexpr uint32_t kNoSlot = 0xFFFFFFFFu;
  static constexpr uint32_t kMaxSlots = 1u << 31;

  RowArena(PageAllocator* pages, int row_floats);
  ~RowArena();
  RowArena(const RowArena&) = delete;
  RowArena& operator=(const RowArena&) = delete;

  // A slot for a new row: contents undefined, metadata zero but for the generation. kNoSlot: no
  // memory.
  uint32_t Allocate();
  void Free(uint32_t slot, int64_t key);
  // Marks the passage of one training batch.
  void Tick() { ++clock_; }

  float* Row(uint32_t slot) {
    return reinterpret_cast<float*>(slabs_[slot >> shift_].rows + (slot & mask_) * stride_);
  }
  const float* Row(uint32_t slot) const { return const_cast<RowArena*>(this)->Row(slot); }
  RowMeta& Meta(uint32_t slot) { return slabs_[slot >> shift_].metas[slot & mask_]; }
  const RowMeta& Meta(uint32_t slot) const { return const_cast<RowArena*>(this)->Meta(slot); }
  // Slots that ever held a row are [0, slots()).
  uint32_t slots() const { return slots_; }
  // The key that a freed, not yet reused slot held.
  int64_t DepartedKey(uint32_t slot) const;

  // Copies the first `floats` of every slot and all metadata into an arena of another width.
  bool CopySlotsTo(RowArena* target, int floats) const;

  int64_t row_bytes() const;
  int64_t meta_bytes() const;

 private:
  struct Slab {
    char* rows;
    RowMeta* metas;
  };
  struct Resting {
    uint32_t slot;
    uint64_t since;
  };
  bool AddSlab();

  PageAllocator* pages_;
  size_t stride_;  // bytes from row to row
  int shift_ = 0;  // log2 of the rows per slab
  uint32_t mask_ = 0;
  uint32_t slots_ = 0;
  uint64_t clock_ = 0;
  std::vector<Slab> slabs_;
  std::deque<Resting> free_;
};

}  // namespace mxrec
