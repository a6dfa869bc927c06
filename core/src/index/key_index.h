// KeyIndex: key -> row reference, by extendible hashing over fixed-size segments.
//
// A segment is 1,024 buckets of one cache line; a bucket holds five keys with their references, so
// that a probe costs one cache miss. A full bucket spills into the next one and counts what passed
// through it: a probe stops at a bucket that nothing passed, and erasing leaves no tombstones. A
// full segment splits alone; two halves that have become sparse merge again.
//
// Invariants:
//  1. A key lies in its home bucket or in the first bucket behind it that had room.
//  2. bucket.overflow == number of keys of the segment whose path from home runs past the bucket.
//  3. All directory entries with a segment's prefix point at that segment.
//
// Not thread-safe: the shard's lock guards it; const methods may run concurrently.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "index/key_hash.h"
#include "util/page_allocator.h"
#include "util/prefetch.h"

namespace mxrec {

using RowRef = uint32_t;  // a slot of the shard's RowArena
inline constexpr RowRef kNoRow = 0xFFFFFFFFu;

struct alignas(kCacheLine) IndexBucket {
  static constexpr int kEntries = 5;
  int64_t keys[kEntries];
  RowRef refs[kEntries];
  uint8_t occupied;  // bit i: entry i is in use
  uint8_t unused;
  uint16_t overflow;  // keys that went past this bucket
};
static_assert(sizeof(IndexBucket) == kCacheLine);

class KeyIndex {
 public:
  static constexpr uint32_t kBuckets = 1024;
  static constexpr uint32_t kSegmentEntries = kBuckets * IndexBucket::kEntries;
  static constexpr uint32_t kSplitAt = kSegmentEntries * 9 / 10;
  // Far below kSplitAt: a merged segment takes many inserts before it splits again.
  static constexpr uint32_t kMergeAt = kSegmentEntries * 9 / 20;
  static constexpr size_t kSegmentBytes = kBuckets * sizeof(IndexBucket);
  static constexpr int kMaxDepth = 24;
  static constexpr uint64_t kEndOfPositions = uint64_t{1} << 32;

  KeyIndex(PageAllocator* pages, int shard_bits) : pages_(pages), shard_bits_(shard_bits) {}
  ~KeyIndex();
  KeyIndex(const KeyIndex&) = delete;
  KeyIndex& operator=(const KeyIndex&) = delete;

  // What a batched probe needs: directory[position >> shift] is the segment of a position. Null
  // while the index has none. Valid until the index changes.
  struct View {
    const IndexBucket* const* directory;
    int shift;
  };
  View view() const { return {directory_.empty() ? nullptr : directory_.data(), 32 - depth_}; }
  static uint32_t BucketOf(uint64_t hash) { return static_cast<uint32_t>(hash) & (kBuckets - 1); }
  // The line that Find reads first.
  const IndexBucket* HomeBucket(uint64_t hash) const {
    return directory_.empty() ? nullptr : SegmentOf(hash) + BucketOf(hash);
  }
  // In the segment of the key's position.
  static RowRef FindIn(const IndexBucket* segment, uint64_t hash, int64_t key) {
    return FindFrom(segment, BucketOf(hash), key);
  }
  RowRef Find(uint64_t hash, int64_t key) const {
    if (directory_.empty()) return kNoRow;
    return FindFrom(SegmentOf(hash), BucketOf(hash), key);
  }
  // Room for so many keys, to be inserted without splits on the way. Without effect once there has
  // been a key. False: no memory; nothing has changed.
  bool Reserve(uint64_t keys);
  // Precondition: the key is absent. False: no memory, or too many keys with one hash prefix;
  // nothing has changed.
  bool Insert(uint64_t hash, int64_t key, RowRef ref);
  // Precondition: the key is there.
  void Replace(uint64_t hash, int64_t key, RowRef ref);
  // The reference that the key had; kNoRow if it was absent. May merge segments.
  RowRef Erase(uint64_t hash, int64_t key);

  // Calls visit(key, ref) for every key from `position` to the end of the segment there; returns
  // the position of the next segment, 2^32 behind the last. Keys keep their positions when segments
  // split and merge.
  template <class Visit>
  uint64_t VisitSegment(uint64_t position, Visit&& visit) const;
  // The position that VisitSegment would return.
  uint64_t SegmentEnd(uint64_t position) const {
    if (directory_.empty() || position >= kEndOfPositions) return kEndOfPositions;
    return EndOf(SegmentAt(position));
  }

  uint64_t size() const { return size_; }
  int64_t segments() const { return static_cast<int64_t>(segments_.size()); }
  int64_t splits() const { return splits_; }
  // Nanoseconds that they have taken, and that the longest has.
  int64_t split_nanos() const { return split_nanos_; }
  int64_t longest_split_nanos() const { return longest_split_nanos_; }
  int64_t bytes() const;
  int64_t segment_bytes() const { return static_cast<int64_t>(segments_.size() * kSegmentBytes); }

 private:
  struct Segment {
    IndexBucket* buckets;
    uint32_t count;
    uint32_t prefix;  // the first `depth` bits of its keys' positions
    int depth;
  };

  uint32_t DirectoryIndex(uint64_t hash) const {
    return depth_ == 0 ? 0 : PositionOf(hash, shard_bits_) >> (32 - depth_);
  }
  const IndexBucket* SegmentOf(uint64_t hash) const { return directory_[DirectoryIndex(hash)]; }

  const Segment& SegmentAt(uint64_t position) const {
    const uint32_t entry = depth_ == 0 ? 0 : static_cast<uint32_t>(position >> (32 - depth_));
    return segments_[directory_ids_[entry]];
  }
  static uint64_t EndOf(const Segment& segment) {
    return (static_cast<uint64_t>(segment.prefix) + 1) << (32 - segment.depth);
  }
  static uint32_t Matches(const IndexBucket& bucket, int64_t key) {
    uint32_t mask = 0;
    for (int i = 0; i < IndexBucket::kEntries; ++i) {
      mask |= static_cast<uint32_t>(bucket.keys[i] == key) << i;
    }
    return mask & bucket.occupied;
  }
  static RowRef FindFrom(const IndexBucket* segment, uint32_t b, int64_t key) {
    for (;; b = (b + 1) & (kBuckets - 1)) {
      const IndexBucket& bucket = segment[b];
      const uint32_t match = Matches(bucket, key);
      if (match != 0) [[likely]]
        return bucket.refs[std::countr_zero(match)];
      if (bucket.overflow == 0) return kNoRow;
    }
  }
  static void Place(IndexBucket* segment, uint32_t home, int64_t key, RowRef ref);
  // Entries (bits) of a bucket that is their home, to the same bucket, empty, of another segment.
  static void MoveEntries(IndexBucket* from, uint32_t entries, IndexBucket* to);
  // Takes out entry i of bucket b, whose home is `home`.
  static void Remove(IndexBucket* segment, uint32_t home, uint32_t b, int i);

  IndexBucket* NewSegment();
  bool GrowDirectory();
  bool Split(uint32_t id);
  bool TimedSplit(uint32_t id);
  // Joins segment `id` and its sparse other half, as often as there is one.
  void MergeSparse(uint32_t id);
  void Point(uint32_t id);  // directory entries of segment `id` at it

  PageAllocator* pages_;
  int shard_bits_;
  int depth_ = 0;  // directory_.size() == 2^depth_, or 0 before the first insert
  std::vector<IndexBucket*> directory_;
  std::vector<uint32_t> directory_ids_;  // beside directory_: which of segments_
  std::vector<Segment> segments_;
  uint64_t size_ = 0;
  int64_t splits_ = 0;
  int64_t split_nanos_ = 0;
  int64_t longest_split_nanos_ = 0;
};

template <class Visit>
uint64_t KeyIndex::VisitSegment(uint64_t position, Visit&& visit) const {
  if (directory_.empty() || position >= kEndOfPositions) return kEndOfPositions;
  const Segment& segment = SegmentAt(position);
  // A merge may have moved the segment's begin before `position`.
  const bool whole = position <= static_cast<uint64_t>(segment.prefix) << (32 - segment.depth);
  for (uint32_t b = 0; b < kBuckets; ++b) {
    const IndexBucket& bucket = segment.buckets[b];
    for (uint32_t bits = bucket.occupied; bits != 0; bits &= bits - 1) {
      const int i = std::countr_zero(bits);
      if (!whole && PositionOf(HashKey(bucket.keys[i]), shard_bits_) < position) continue;
      visit(bucket.keys[i], bucket.refs[i]);
    }
  }
  return EndOf(segment);
}

}  // namespace mxrec
