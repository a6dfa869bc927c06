// SketchCounters: approximate counts of a key space that no index of counts would fit, in 4 bytes a
// key: a count-min sketch with conservative update (Estan and Varghese, 2002), blocked so that a
// key costs one cache line.
//
// A block has 124 counters of 4 bits in four sections of 31; a key has one counter in each, and its
// count is the least of them: never too small, until the block ages. A block that kAgeAt keys have
// come to since it aged last halves its counters, so that what was seen long ago gives way.
//
// Blocks are numbered over all shards in the order of hashes, so which keys share a block does not
// depend on the number of shards.
#pragma once

#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

#include "admission/changed_places.h"
#include "admission/key_counters.h"
#include "util/prefetch.h"

namespace mxrec {

struct alignas(kCacheLine) SketchBlock {
  static constexpr uint32_t kSections = 4;
  static constexpr uint32_t kPerSection = 31;
  static constexpr uint32_t kMost = 15;  // of a counter

  uint8_t nibbles[62];
  uint16_t arrivals;  // keys that were new to the block since it aged last, half of those before

  uint32_t Get(uint32_t counter) const { return (nibbles[counter / 2] >> (counter % 2 * 4)) & 15; }
  void Set(uint32_t counter, uint32_t value) {
    const uint32_t shift = counter % 2 * 4;
    uint8_t& pair = nibbles[counter / 2];
    pair = static_cast<uint8_t>((pair & ~(15u << shift)) | (value << shift));
  }
};
static_assert(sizeof(SketchBlock) == kCacheLine);

class SketchCounters : public KeyCounters {
 public:
  static constexpr uint64_t kKeysPerBlock = 18;
  static constexpr uint16_t kAgeAt = 2 * kKeysPerBlock;
  // Of all shards; a multiple of the most shards that there can be.
  static uint64_t Blocks(int64_t expected_keys);

  SketchCounters(PageAllocator* pages, int64_t expected_keys, int shard_bits, uint32_t shard);
  ~SketchCounters() override;

  void Prefetch(uint64_t hash) const override;
  KeyCount Peek(uint64_t hash, int64_t key) const override;
  uint32_t Reserve(uint64_t hash, int64_t key, bool* fresh) override;
  void Commit(uint64_t hash, int64_t key, uint32_t place, uint32_t more, uint32_t time) override;
  // A sketch does not forget a single key, and knows no times.
  void Forget(uint64_t /*hash*/, int64_t /*key*/) override {}
  bool Old(uint64_t /*hash*/, int64_t /*key*/, uint32_t /*cutoff*/) const override { return false; }
  void Reprieve(uint64_t /*hash*/, int64_t /*key*/) override {}
  void EndSweep() override {}
  int64_t ForgetOld(uint32_t cutoff, uint64_t* position, std::vector<int64_t>* gone) override;
  // A block is a row of 16 floats, its 64 bytes as they are; its key is the block's number.
  void Scan(std::optional<uint32_t> cutoff, uint64_t* position, RowBlock* block) const override;
  Loaded Load(const RowBlock& block, size_t row, bool replaces) override;
  bool Track(bool on) override;
  void BeginSave(const SavedPart& part) override;
  void ScanSaved(uint64_t* position, RowBlock* block) override;
  void AddExpired(std::vector<int64_t>* /*keys*/) const override {}
  void EndSave(bool follows) override;
  bool lost() const override { return lost_; }
  int64_t keys() const override { return 0; }
  int64_t bytes() const override;
  int64_t page_bytes() const override;

 private:
  static constexpr uint64_t kChunkBlocks = 1024;

  uint64_t BlockOf(uint64_t hash) const { return ((hash >> 32) * blocks_ >> 32) - first_; }
  SketchBlock* At(uint64_t block) const {  // null: nothing was counted near it
    SketchBlock* chunk = chunks_[block / kChunkBlocks];
    return chunk == nullptr ? nullptr : chunk + block % kChunkBlocks;
  }
  SketchBlock* Make(uint64_t block);  // null: no memory
  // The last chunk has the blocks that are left.
  size_t ChunkBytes(uint64_t chunk) const {
    return std::min(kChunkBlocks, own_ - chunk * kChunkBlocks) * sizeof(SketchBlock);
  }

  PageAllocator* pages_;
  uint64_t blocks_;  // of all shards
  uint64_t own_;     // of this one
  uint64_t first_;   // number of its first
  std::vector<SketchBlock*> chunks_;

  void Touch(uint64_t block);  // before it changes
  void Write(uint64_t number, const SketchBlock& from, RowBlock* block) const;
  ChangedPlaces changed_;  // by block
  bool saving_ = false;
  bool delta_ = false;
  uint64_t scanned_ = 0;                                // blocks before have been passed on
  std::unordered_map<uint64_t, SketchBlock> replaced_;  // what changed before it was passed on
  bool lost_ = false;
};

}  // namespace mxrec
