// RowImages: rows of one shard as they were at an instant, kept because training has changed or
// removed them since. Each is the row's stored bytes with its counters.
//
// Thread-safe: rows of one shard are changed by several threads at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "arena/row_arena.h"
#include "index/key_index.h"
#include "util/mutex.h"

namespace mxrec {

class RowImages {
 public:
  struct Image {
    int64_t key = 0;
    bool has_key = false;  // a gradient comes with an address alone
    uint32_t frequency = 0;
    uint32_t last_time = 0;
    const float* row = nullptr;  // stored bytes
  };

  // bytes_held: of all shards, grows and shrinks with the images.
  RowImages(size_t row_bytes, std::atomic<int64_t>* bytes_held)
      : row_bytes_(row_bytes), bytes_held_(bytes_held) {}
  ~RowImages();
  RowImages(const RowImages&) = delete;
  RowImages& operator=(const RowImages&) = delete;

  // There are no images. row_bytes: whole floats.
  void SetRowBytes(size_t row_bytes) { row_bytes_ = row_bytes; }
  // False: no memory.
  bool Add(RowRef ref, const int64_t* key, const RowMeta& meta, const float* row);
  // The row is in another slot now.
  void Move(RowRef from, RowRef to);
  // The row has gone, with this key: the image stays, under no slot.
  bool Orphan(RowRef ref, int64_t key);
  bool AddOrphan(int64_t key, const RowMeta& meta, const float* row);

  // Hands the image of a slot to `use` and drops it. False: there is none.
  template <class Use>
  bool Take(RowRef ref, Use&& use);
  // The same for up to `most` orphans, then images whose key is known; those are passed with their
  // slot, orphans with kNoRow. Returns how many.
  template <class Use>
  size_t TakeKeyed(size_t most, bool orphans_only, Use&& use);

  // Drops all images. What they took is freed with the returned object: it may be much, and be
  // freed where nobody waits for it.
  class Remains;
  Remains Clear();

 private:
  struct Record {
    int64_t key;
    uint32_t frequency;
    uint32_t last_time;
    bool has_key;
  };
  static constexpr uint32_t kChunkRecords = 256;

  // May throw.
  uint32_t NewRecord(const int64_t* key, const RowMeta& meta, const float* row) MXREC_REQUIRES(mu_);
  float* RowOf(uint32_t record) MXREC_REQUIRES(mu_) {
    return reinterpret_cast<float*>(chunks_[record / kChunkRecords].get() +
                                    (record % kChunkRecords) * row_bytes_);
  }
  Image ImageOf(uint32_t record) MXREC_REQUIRES(mu_) {
    const Record& r = records_[record];
    return {r.key, r.has_key, r.frequency, r.last_time, RowOf(record)};
  }
  void Drop(uint32_t record) MXREC_REQUIRES(mu_);

  // What finds an image: its record, and an entry of the map.
  size_t held_bytes() const { return row_bytes_ + sizeof(Record) + 56; }

  size_t row_bytes_;
  std::atomic<int64_t>* const bytes_held_;
  mutable Mutex mu_;
  std::unordered_map<RowRef, uint32_t> by_slot_ MXREC_GUARDED_BY(mu_);
  // Slots of images whose key is known, and of some that are gone.
  std::vector<RowRef> keyed_ MXREC_GUARDED_BY(mu_);
  std::vector<uint32_t> orphans_ MXREC_GUARDED_BY(mu_);
  std::vector<Record> records_ MXREC_GUARDED_BY(mu_);
  std::vector<uint32_t> free_ MXREC_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<char[]>> chunks_ MXREC_GUARDED_BY(mu_);
};

class RowImages::Remains {
  friend class RowImages;
  std::unordered_map<RowRef, uint32_t> by_slot_;
  std::vector<RowRef> keyed_;
  std::vector<uint32_t> orphans_;
  std::vector<Record> records_;
  std::vector<uint32_t> free_;
  std::vector<std::unique_ptr<char[]>> chunks_;
};

template <class Use>
bool RowImages::Take(RowRef ref, Use&& use) {
  const MutexLock lock(mu_);
  const auto found = by_slot_.find(ref);
  if (found == by_slot_.end()) return false;
  use(ImageOf(found->second));
  Drop(found->second);
  by_slot_.erase(found);
  return true;
}

template <class Use>
size_t RowImages::TakeKeyed(size_t most, bool orphans_only, Use&& use) {
  const MutexLock lock(mu_);
  size_t taken = 0;
  for (; taken < most && !orphans_.empty(); ++taken) {
    use(kNoRow, ImageOf(orphans_.back()));
    Drop(orphans_.back());
    orphans_.pop_back();
  }
  if (orphans_only) return taken;
  while (taken < most && !keyed_.empty()) {
    const auto found = by_slot_.find(keyed_.back());
    keyed_.pop_back();
    // It may have been taken, or be of a slot that the row has left.
    if (found == by_slot_.end() || !records_[found->second].has_key) continue;
    use(found->first, ImageOf(found->second));
    Drop(found->second);
    by_slot_.erase(found);
    ++taken;
  }
  return taken;
}

}  // namespace mxrec
