// HotRows: copies of the most frequently read embeddings in one small block that stays in the
// cache, found by key without touching the index.
//
// A key has one place, chosen by its hash. A place holds a copy of the row's embedding, bit for bit
// what the arena holds: whoever changes a row writes it through, whoever removes it drops it.
//
// Locking: the place of a key of shard s is guarded by that shard's lock, as its row is; Rebuild
// and Clear need all shards' locks, exclusively. The set itself changes only there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "index/key_index.h"
#include "util/page_allocator.h"

namespace mxrec {

class HotRows {
 public:
  // What a reader needs; keys is null while no row is hot.
  struct View {
    const int64_t* keys = nullptr;
    const char* rows = nullptr;
    size_t mask = 0;
    size_t stride = 0;

    // Bits between those that choose the shard and the bucket.
    size_t PlaceOf(uint64_t hash) const { return (hash >> 16) & mask; }
    const float* Row(size_t place) const {
      return reinterpret_cast<const float*>(rows + place * stride);
    }
  };
  struct Row {
    int64_t key;
    uint32_t shard;
    RowRef ref;
    const float* row;
  };

  // row_bytes: of an embedding as it is stored. enabled false: never holds a row.
  HotRows(size_t row_bytes, bool enabled);
  ~HotRows();
  HotRows(const HotRows&) = delete;
  HotRows& operator=(const HotRows&) = delete;

  bool enabled() const { return most_places_ > 0; }
  bool any() const { return view_.keys != nullptr; }
  View view() const { return view_; }
  size_t places() const { return places_; }
  size_t most_places() const { return most_places_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t bytes() const;  // held from the operating system

  // Takes these rows, most frequent first, in place of those it has. Of two keys of one place the
  // first one stays. The block has the size that so many rows want. Out of memory: no row is hot.
  void Rebuild(std::span<const Row> rows);
  void Clear();

  // Whether a row may be hot: quick, and wrong only in saying yes.
  bool MayHold(uint32_t shard, RowRef ref) const {
    if (view_.keys == nullptr) return false;
    const uint32_t bit = FilterBit(shard, ref);
    return (filter_[bit / 64] >> (bit % 64)) & 1;
  }
  // The row has changed, or is about to be removed.
  void WriteThrough(uint32_t shard, RowRef ref, const float* row) {
    if (MayHold(shard, ref)) Store(shard, ref, row);
  }
  void Drop(uint32_t shard, RowRef ref) {
    if (MayHold(shard, ref)) Forget(shard, ref);
  }
  // Which row a place holds.
  struct Owner {
    uint32_t shard;
    RowRef ref;
  };
  Owner owner(size_t place) const { return owners_[place]; }
  // How often a batch used a hot row.
  struct Use {
    RowRef ref;
    uint32_t count;
  };

 private:
  static constexpr uint32_t kFilterBits = 1u << 16;

  static uint32_t FilterBit(uint32_t shard, RowRef ref) {
    return ((ref * 0x9E3779B1u) ^ (shard * 0x85EBCA6Bu)) >> 16;
  }
  size_t PlaceOfRow(uint32_t shard, RowRef ref) const;  // places_: none
  void Store(uint32_t shard, RowRef ref, const float* row);
  void Forget(uint32_t shard, RowRef ref);
  int64_t KeyOfNoRowAt(size_t place) const;

  bool Resize(size_t places);
  void FreeBlock();

  const size_t row_bytes_;
  size_t most_places_ = 0;       // a power of two; 0: disabled
  size_t places_ = 0;            // a power of two; of the block, 0 without one
  std::atomic<size_t> size_{0};  // rows of any shard may be dropped at a time
  View view_;
  PageAllocator pages_;
  void* block_ = nullptr;  // rows, then keys
  size_t block_bytes_ = 0;
  std::vector<Owner> owners_;     // [places]
  std::vector<uint64_t> filter_;  // bits over (shard, ref)
  std::vector<uint32_t> by_row_;  // open addressing over (shard, ref): place + 1; 0: empty
};

}  // namespace mxrec
