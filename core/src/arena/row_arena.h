// RowArena: the rows of one shard, in slabs, each with the metadata of its rows behind them.
//
// A row stays in its slot until it is freed. Freeing leaves the key in the slot's memory, and the
// slot rests for two training batches before it is used again, so that an address carried from
// forward to backward can still be traced to its key. A slab whose slots have all rested gives its
// memory back; the slots stay, and of their generations the slab remembers a bound.
//
// Rows that were erased at random leave a few in every slab. Draining moves them together: some
// slabs are marked, take no new rows, and the caller, who knows where rows are referred to, moves
// theirs one by one. Unlike an erased row, a moved one is still meant by whoever has its old
// address: where a row moved from is remembered for more batches than one training step has
// lookups, whatever becomes of the slot.
//
// Invariants:
//  1. A slot's generation is odd while it holds a row, even while it does not; it only grows.
//  2. A slot whose generation would wrap is retired.
//  3. The slots of a slab without memory are free, and no address of them names a row.
//  4. A draining slab gives out no slot.
//
// Not thread-safe: the shard's lock guards it; const methods may run concurrently.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "util/page_allocator.h"

namespace mxrec {

struct RowMeta {
  uint32_t last_time;  // seconds of the last training use, 0: never
  uint32_t frequency;  // training occurrences, saturating
  uint16_t generation;
  uint16_t stamp;  // when it changed last, as ChangeTracker counts; in a free slot: undefined
};
static_assert(sizeof(RowMeta) == 12);

class RowArena {
  static constexpr uint32_t kMostSlabRows = 8192;
  // What a slab without memory has for metadata: generation 0, of which there are no addresses.
  static RowMeta no_metas_[kMostSlabRows];

 public:
  struct Slab {
    char* rows = reinterpret_cast<char*>(no_metas_);  // without memory: may be prefetched
    RowMeta* metas = no_metas_;
    bool held() const { return metas != no_metas_; }
  };

  static constexpr uint32_t kNoSlot = 0xFFFFFFFFu;
  static constexpr uint32_t kMaxSlots = 1u << 31;
  static constexpr uint32_t kRestingBatches = 2;
  static constexpr uint32_t kMoveBatches = 1024;  // that moves are remembered for, at least

  RowArena(PageAllocator* pages, int row_floats);
  ~RowArena();
  RowArena(const RowArena&) = delete;
  RowArena& operator=(const RowArena&) = delete;

  // A slot for a new row: contents undefined, metadata zero but for generation and stamp. kNoSlot:
  // no memory.
  uint32_t Allocate();
  // RowMeta::stamp of rows from now on.
  void SetFreshStamp(uint16_t stamp) { fresh_stamp_ = stamp; }
  void Free(uint32_t slot, int64_t key);
  // Tells how many training batches there have been, modulo 2^32, and gives rested slabs back, a
  // bounded number each time.
  void SetClock(uint32_t batches);
  // Gives back the slabs without a live row, rested or not.
  void ReleaseIdle();
  // Whether SetClock may find something to give back.
  bool has_idle_slabs() const { return idle_slabs_ > 0; }

  float* Row(uint32_t slot) {
    return reinterpret_cast<float*>(slabs_[slot >> shift_].rows + (slot & mask_) * stride_);
  }
  const float* Row(uint32_t slot) const { return const_cast<RowArena*>(this)->Row(slot); }
  // Of any slot below slots(); that of a slab without memory is never odd and must not be written.
  RowMeta& Meta(uint32_t slot) { return slabs_[slot >> shift_].metas[slot & mask_]; }
  const RowMeta& Meta(uint32_t slot) const { return const_cast<RowArena*>(this)->Meta(slot); }
  // Where rows are, for loops over many of them. Valid until the arena changes.
  struct View {
    const Slab* slabs;
    int shift;
    uint32_t mask;
    size_t stride;

    float* Row(uint32_t slot) const {
      return reinterpret_cast<float*>(slabs[slot >> shift].rows + (slot & mask) * stride);
    }
    RowMeta* Meta(uint32_t slot) const { return slabs[slot >> shift].metas + (slot & mask); }
  };
  View view() const { return {slabs_.data(), shift_, mask_, stride_}; }
  // Slots that ever held a row are below.
  uint32_t slots() const { return static_cast<uint32_t>(slabs_.size()) << shift_; }
  // Greater than the generation of every address that names a row that has left the slot.
  uint16_t Generation(uint32_t slot) const {
    const Slab& slab = slabs_[slot >> shift_];
    return slab.held() ? Meta(slot).generation : states_[slot >> shift_].floor;
  }
  // The key of the row that this address named until it was moved or, if the slot has not been used
  // since, erased.
  bool DepartedKey(uint32_t slot, uint16_t generation, int64_t* key) const;
  bool MovedKey(uint32_t slot, uint16_t generation, int64_t* key) const;  // moved only

  // Marks the slabs whose rows the other ones could take, if that frees half of the memory or more.
  // Returns the rows to be moved; 0: nothing is marked.
  int64_t BeginDrain();
  bool draining() const { return draining_ > 0; }
  bool InDrainingSlab(uint32_t slot) const { return states_[slot >> shift_].draining; }
  // Moves a row and its metadata to a slot of another slab, which may not have rested, and frees
  // the old one. kNoSlot: no memory; the row stays.
  uint32_t Move(uint32_t slot, int64_t key);
  void EndDrain();

  // Copies the first `floats` of every slot and all metadata into an empty arena of another width.
  bool CopySlotsTo(RowArena* target, int floats) const;

  // Of the slabs that have memory, and what keeps track of them.
  int64_t row_bytes() const;
  int64_t meta_bytes() const;
  // Of the allocator's pieces: what the system gave or will give for these slabs.
  int64_t held_bytes() const;

 private:
  // A row that was moved away: the address that it had, and its key.
  struct MovedRow {
    uint32_t slot;
    uint16_t generation;
    int64_t key;
  };
  // Freed slots form a queue, the longest at rest first: RowMeta::last_time is the next slot
  // (within the slab), RowMeta::frequency the clock when it was freed.
  struct State {
    uint32_t fresh = 0;  // slots from here on have not been used since the slab has its memory
    uint32_t live = 0;
    uint32_t queued = 0;
    uint32_t first_free = kNoSlot, last_free = kNoSlot;  // within the slab
    uint32_t last_freed_at = 0;                          // clock
    uint16_t floor = 0;    // even; generations start here when the slab gets memory again
    uint16_t highest = 0;  // generation of a freed slot
    bool draining = false;
    std::vector<MovedRow> moved;  // remembered; outlives the slab's memory
  };
  bool Rested(uint32_t since) const { return clock_ - since >= kRestingBatches; }
  uint32_t slab_rows() const { return mask_ + 1; }
  size_t meta_offset() const { return slab_rows() * stride_; }
  size_t slab_bytes() const { return meta_offset() + slab_rows() * sizeof(RowMeta); }
  void SetShift(int shift);
  bool GiveMemory(uint32_t slab);  // to a slab that has none
  void Release(uint32_t slab);
  uint32_t TakeFree(uint32_t slab, bool rested);  // kNoSlot: none, or none that has rested
  uint32_t Take(bool rested);                     // a slot of a slab that is not draining
  bool OpenSlab();                                // makes open_ a slab with fresh slots
  // Bytes of the first slab, on small pages, that nothing has touched: of rows, of metadata.
  std::pair<size_t, size_t> Untouched() const;

  PageAllocator* pages_;
  size_t stride_;  // bytes from row to row
  int shift_ = 0;  // log2 of the rows per slab
  uint32_t mask_ = 0;
  uint32_t clock_ = 0;
  uint16_t fresh_stamp_ = 1;
  std::vector<Slab> slabs_;
  std::vector<State> states_;  // beside slabs_
  uint32_t open_ = kNoSlot;    // the slab that fresh slots come from
  uint32_t recycled_ = 0;      // slabs before this one have no rested slot
  uint32_t filled_ = 0;        // slabs before this one have no slot for moved rows
  uint32_t idle_slabs_ = 0;    // with memory and without a live row
  uint32_t held_slabs_ = 0;    // with memory
  uint32_t queued_ = 0;        // slots in queues
  uint32_t draining_ = 0;      // slabs
  bool remembers_ = false;     // some State::moved is not empty
  uint32_t moved_at_ = 0;      // clock of the last move
};

}  // namespace mxrec
