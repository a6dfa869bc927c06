#include "index/key_index.h"

#include <cstring>
#include <memory>
#include <new>

namespace mxrec {

KeyIndex::~KeyIndex() {
  for (const Segment& segment : segments_) pages_->Free(segment.buckets, kSegmentBytes);
}

int64_t KeyIndex::bytes() const {
  return static_cast<int64_t>(
      segments_.size() * kSegmentBytes + directory_.capacity() * sizeof(IndexBucket*) +
      directory_ids_.capacity() * sizeof(uint32_t) + segments_.capacity() * sizeof(Segment));
}

IndexBucket* KeyIndex::NewSegment() {
  // A table of a few thousand keys stays on small pages.
  const bool huge = segments_.size() >= 4;
  return static_cast<IndexBucket*>(pages_->Allocate(kSegmentBytes, huge));
}

void KeyIndex::Place(IndexBucket* segment, uint32_t home, int64_t key, RowRef ref) {
  constexpr uint32_t kFull = (1u << IndexBucket::kEntries) - 1;
  for (uint32_t b = home;; b = (b + 1) & (kBuckets - 1)) {
    IndexBucket& bucket = segment[b];
    if (bucket.occupied == kFull) {
      ++bucket.overflow;
      continue;
    }
    const int i = std::countr_one(bucket.occupied);
    bucket.keys[i] = key;
    bucket.refs[i] = ref;
    bucket.occupied = static_cast<uint8_t>(bucket.occupied | (1u << i));
    return;
  }
}

void KeyIndex::Point(uint32_t id) {
  const Segment& segment = segments_[id];
  const uint32_t span = 1u << (depth_ - segment.depth);
  const uint32_t begin = segment.prefix << (depth_ - segment.depth);
  for (uint32_t i = begin; i < begin + span; ++i) {
    directory_[i] = segment.buckets;
    directory_ids_[i] = id;
  }
}

bool KeyIndex::Split(uint32_t id) {
  const int child_depth = segments_[id].depth + 1;
  if (child_depth > kMaxDepth) return false;
  IndexBucket* fresh = NewSegment();
  if (fresh == nullptr) return false;
  std::unique_ptr<IndexBucket[]> old;
  try {
    old = std::make_unique_for_overwrite<IndexBucket[]>(kBuckets);
    segments_.reserve(segments_.size() + 1);
    if (child_depth > depth_) {
      std::vector<IndexBucket*> directory(directory_.size() * 2);
      std::vector<uint32_t> ids(directory_.size() * 2);
      for (size_t i = 0; i < directory.size(); ++i) {
        directory[i] = directory_[i / 2];
        ids[i] = directory_ids_[i / 2];
      }
      directory_ = std::move(directory);
      directory_ids_ = std::move(ids);
      depth_ = child_depth;
    }
  } catch (const std::bad_alloc&) {
    pages_->Free(fresh, kSegmentBytes);
    return false;
  }

  segments_.push_back({fresh, 0, segments_[id].prefix * 2 + 1, child_depth});
  Segment& upper = segments_.back();
  Segment& lower = segments_[id];
  lower.depth = child_depth;
  lower.prefix *= 2;
  lower.count = 0;
  std::memcpy(old.get(), lower.buckets, kSegmentBytes);
  std::memset(lower.buckets, 0, kSegmentBytes);
  for (uint32_t b = 0; b < kBuckets; ++b) {
    const IndexBucket& bucket = old[b];
    for (uint32_t bits = bucket.occupied; bits != 0; bits &= bits - 1) {
      const int i = std::countr_zero(bits);
      const uint64_t hash = HashKey(bucket.keys[i]);
      const bool up = (PositionOf(hash, shard_bits_) >> (32 - child_depth)) & 1;
      Segment& target = up ? upper : lower;
      Place(target.buckets, BucketOf(hash), bucket.keys[i], bucket.refs[i]);
      ++target.count;
    }
  }
  Point(id);
  Point(static_cast<uint32_t>(segments_.size() - 1));
  ++splits_;
  return true;
}

bool KeyIndex::Insert(uint64_t hash, int64_t key, RowRef ref) {
  if (directory_.empty()) {
    try {
      segments_.reserve(1);
      directory_.reserve(1);
      directory_ids_.reserve(1);
    } catch (const std::bad_alloc&) {
      return false;
    }
    IndexBucket* first = NewSegment();
    if (first == nullptr) return false;
    segments_.push_back({first, 0, 0, 0});
    directory_.push_back(first);
    directory_ids_.push_back(0);
  }
  for (;;) {
    const uint32_t id = directory_ids_[DirectoryIndex(hash)];
    if (segments_[id].count < kSplitAt) {
      Place(segments_[id].buckets, BucketOf(hash), key, ref);
      ++segments_[id].count;
      ++size_;
      return true;
    }
    if (!Split(id)) return false;
  }
}

RowRef KeyIndex::Erase(uint64_t hash, int64_t key) {
  if (directory_.empty()) return kNoRow;
  Segment& segment = segments_[directory_ids_[DirectoryIndex(hash)]];
  const uint32_t home = BucketOf(hash);
  for (uint32_t b = home;; b = (b + 1) & (kBuckets - 1)) {
    IndexBucket& bucket = segment.buckets[b];
    const uint32_t match = Matches(bucket, key);
    if (match == 0) {
      if (bucket.overflow == 0) return kNoRow;
      continue;
    }
    bucket.occupied = static_cast<uint8_t>(bucket.occupied & ~match);
    for (uint32_t passed = home; passed != b; passed = (passed + 1) & (kBuckets - 1)) {
      --segment.buckets[passed].overflow;
    }
    --segment.count;
    --size_;
    return bucket.refs[std::countr_zero(match)];
  }
}

}  // namespace mxrec
