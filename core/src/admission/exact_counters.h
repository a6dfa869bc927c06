// ExactCounters: one count for every key, found by an index of its own.
//
// 64 / 5 / 0.62 = 20.6 bytes of index and 8 of count a key.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "admission/changed_places.h"
#include "admission/key_counters.h"
#include "index/key_index.h"

namespace mxrec {

class ExactCounters : public KeyCounters {
 public:
  ExactCounters(PageAllocator* pages, int shard_bits);
  ~ExactCounters() override;

  void Prefetch(uint64_t hash) const override { mxrec::Prefetch(index_.HomeBucket(hash)); }
  KeyCount Peek(uint64_t hash, int64_t key) const override;
  uint32_t Reserve(uint64_t hash, int64_t key, bool* fresh) override;
  void Commit(uint64_t hash, int64_t key, uint32_t place, uint32_t more, uint32_t time) override;
  void Forget(uint64_t hash, int64_t key) override;
  bool Old(uint64_t hash, int64_t key, uint32_t cutoff) const override;
  void Reprieve(uint64_t hash, int64_t key) override;
  void EndSweep() override { reprieved_.clear(); }
  int64_t ForgetOld(uint32_t cutoff, uint64_t* position, std::vector<int64_t>* gone) override;
  void Scan(std::optional<uint32_t> cutoff, uint64_t* position, RowBlock* block) const override;
  Loaded Load(const RowBlock& block, size_t row, bool replaces) override;
  bool Track(bool on) override;
  void BeginSave(const SavedPart& part) override;
  void ScanSaved(uint64_t* position, RowBlock* block) override;
  void AddExpired(std::vector<int64_t>* keys) const override;
  void EndSave(bool follows) override;
  bool lost() const override { return lost_; }
  int64_t keys() const override { return static_cast<int64_t>(index_.size()); }
  int64_t bytes() const override;
  int64_t page_bytes() const override;

 private:
  // Slabs have the size of index segments, so that the two share freed memory.
  static constexpr uint32_t kSlabCounts = KeyIndex::kSegmentBytes / sizeof(KeyCount);
  struct Slab {
    KeyCount* counts = nullptr;      // null: without memory
    uint32_t first_free = kNothing;  // within the slab; KeyCount::count is the next one
    uint32_t fresh = 0;              // places from here on have not been used
    uint32_t live = 0;
  };

  KeyCount& At(uint32_t place) { return slabs_[place / kSlabCounts].counts[place % kSlabCounts]; }
  const KeyCount& At(uint32_t place) const { return const_cast<ExactCounters*>(this)->At(place); }
  uint32_t TakePlace();  // kNothing: no memory
  void FreePlace(uint32_t place);
  bool IsOld(uint32_t place, uint32_t cutoff) const {
    return At(place).last_time <= cutoff && !reprieved_.contains(place);
  }

  PageAllocator* pages_;
  KeyIndex index_;  // key -> place
  std::vector<Slab> slabs_;
  uint32_t lowest_ = 0;  // slabs before this one have no free place
  std::unordered_set<uint32_t> reprieved_;

  // What a count was at the instant of the running save; 0: nothing to be saved.
  KeyCount SavedCount(int64_t key, uint32_t place);
  void Touch(uint64_t hash, int64_t key, uint32_t place);  // before a count changes or goes
  int shard_bits_;
  ChangedPlaces changed_;  // by place
  bool saving_ = false;
  SavedPart part_;
  std::unordered_set<uint32_t> reprieved_then_;
  std::vector<int64_t> expired_then_;               // keys
  uint64_t scanned_ = 0;                            // positions before have been passed on
  std::unordered_map<int64_t, KeyCount> replaced_;  // what changed before it was passed on
  bool lost_ = false;
};

}  // namespace mxrec
