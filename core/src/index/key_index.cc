#include "index/key_index.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <new>
#include <utility>

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

void KeyIndex::MoveEntries(IndexBucket* from, uint32_t entries, IndexBucket* to) {
  uint32_t n = 0;
  for (int i = 0; i < IndexBucket::kEntries; ++i) {
    to->keys[n] = from->keys[i];
    to->refs[n] = from->refs[i];
    n += (entries >> i) & 1;
  }
  to->occupied = static_cast<uint8_t>((1u << n) - 1);
  from->occupied = static_cast<uint8_t>(from->occupied & ~entries);
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

void KeyIndex::Remove(IndexBucket* segment, uint32_t home, uint32_t b, int i) {
  segment[b].occupied = static_cast<uint8_t>(segment[b].occupied & ~(1u << i));
  for (; home != b; home = (home + 1) & (kBuckets - 1)) --segment[home].overflow;
}

bool KeyIndex::GrowDirectory() {
  try {
    std::vector<IndexBucket*> directory(directory_.size() * 2);
    std::vector<uint32_t> ids(directory_.size() * 2);
    for (size_t i = 0; i < directory.size(); ++i) {
      directory[i] = directory_[i / 2];
      ids[i] = directory_ids_[i / 2];
    }
    directory_ = std::move(directory);
    directory_ids_ = std::move(ids);
  } catch (const std::bad_alloc&) {
    return false;
  }
  ++depth_;
  return true;
}

bool KeyIndex::Split(uint32_t id) {
  const int child_depth = segments_[id].depth + 1;
  if (child_depth > kMaxDepth) return false;
  try {
    if (segments_.size() == segments_.capacity()) segments_.reserve(2 * segments_.size());
  } catch (const std::bad_alloc&) {
    return false;
  }
  IndexBucket* fresh = NewSegment();
  if (fresh == nullptr) return false;
  if (child_depth > depth_ && !GrowDirectory()) {
    pages_->Free(fresh, kSegmentBytes);
    return false;
  }

  segments_.push_back({fresh, 0, segments_[id].prefix * 2 + 1, child_depth});
  Segment& upper = segments_.back();
  Segment& lower = segments_[id];
  lower.depth = child_depth;
  lower.prefix *= 2;
  // The upper half moves out, then what had overflowed moves towards home.
  std::array<uint16_t, kSegmentEntries> displaced;  // bucket * kEntries + entry
  size_t displaced_count = 0;
  for (uint32_t b = 0; b < kBuckets; ++b) {
    IndexBucket& bucket = lower.buckets[b];
    // Which half a key belongs to is a toss: sets of entries instead of a branch for each.
    std::array<uint32_t, IndexBucket::kEntries> homes;
    uint32_t moves = 0, away = 0;
    for (int i = 0; i < IndexBucket::kEntries; ++i) {
      const uint64_t hash = HashKey(bucket.keys[i]);
      homes[i] = BucketOf(hash);
      const uint32_t up = (PositionOf(hash, shard_bits_) >> (32 - child_depth)) & 1;
      moves |= up << i;
      away |= static_cast<uint32_t>(homes[i] != b) << i;
    }
    moves &= bucket.occupied;
    away &= bucket.occupied;
    upper.count += static_cast<uint32_t>(std::popcount(moves));
    if (upper.buckets[b].occupied == 0) [[likely]] {
      MoveEntries(&bucket, moves & ~away, &upper.buckets[b]);
      moves &= away;
    }
    for (; moves != 0; moves &= moves - 1) {
      const int i = std::countr_zero(moves);
      Place(upper.buckets, homes[i], bucket.keys[i], bucket.refs[i]);
      Remove(lower.buckets, homes[i], b, i);
    }
    for (away &= bucket.occupied; away != 0; away &= away - 1) {
      const int i = std::countr_zero(away);
      displaced[displaced_count++] = static_cast<uint16_t>(b * IndexBucket::kEntries + i);
    }
  }
  lower.count -= upper.count;
  for (size_t d = 0; d < displaced_count; ++d) {
    const uint32_t b = displaced[d] / IndexBucket::kEntries;
    const int i = displaced[d] % IndexBucket::kEntries;
    const int64_t key = lower.buckets[b].keys[i];
    const RowRef ref = lower.buckets[b].refs[i];
    const uint32_t home = BucketOf(HashKey(key));
    Remove(lower.buckets, home, b, i);
    Place(lower.buckets, home, key, ref);
  }
  Point(id);
  Point(static_cast<uint32_t>(segments_.size() - 1));
  ++splits_;
  return true;
}

bool KeyIndex::TimedSplit(uint32_t id) {
  const auto begin = std::chrono::steady_clock::now();
  if (!Split(id)) return false;
  const int64_t nanos = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
  split_nanos_ += nanos;
  longest_split_nanos_ = std::max(longest_split_nanos_, nanos);
  return true;
}

void KeyIndex::MergeSparse(uint32_t id) {
  while (segments_[id].depth > 0) {
    const uint32_t sibling = segments_[id].prefix ^ 1;
    const int depth = segments_[id].depth;
    uint32_t other = directory_ids_[sibling << (depth_ - depth)];
    if (segments_[other].depth != depth) return;  // split further
    if (segments_[id].count + segments_[other].count > kMergeAt) return;
    if (segments_[id].count < segments_[other].count) std::swap(id, other);  // the fewer move
    Segment& target = segments_[id];
    const Segment& source = segments_[other];
    for (uint32_t b = 0; b < kBuckets; ++b) {
      const IndexBucket& bucket = source.buckets[b];
      for (uint32_t bits = bucket.occupied; bits != 0; bits &= bits - 1) {
        const int i = std::countr_zero(bits);
        Place(target.buckets, BucketOf(HashKey(bucket.keys[i])), bucket.keys[i], bucket.refs[i]);
      }
    }
    target.count += source.count;
    target.prefix /= 2;
    --target.depth;
    pages_->Free(source.buckets, kSegmentBytes);
    // Merges leave gaps everywhere: moving into them frees whole pages at the end.
    target.buckets = static_cast<IndexBucket*>(pages_->MoveLower(target.buckets, kSegmentBytes));
    Point(id);
    // The last segment takes the place of the one that went.
    const auto last = static_cast<uint32_t>(segments_.size() - 1);
    segments_[other] = segments_[last];
    segments_.pop_back();
    if (other != last) Point(other);
    if (id == last) id = other;
  }
}

bool KeyIndex::Reserve(uint64_t keys) {
  if (!directory_.empty()) return true;
  int depth = 0;
  while (depth < kMaxDepth && (keys >> depth) > kSplitAt) ++depth;
  const uint32_t n = 1u << depth;
  try {
    segments_.reserve(n);
    directory_.reserve(n);
    directory_ids_.reserve(n);
  } catch (const std::bad_alloc&) {
    return false;
  }
  for (uint32_t i = 0; i < n; ++i) {
    IndexBucket* const buckets = NewSegment();
    if (buckets == nullptr) {
      for (const Segment& segment : segments_) pages_->Free(segment.buckets, kSegmentBytes);
      segments_.clear();
      directory_.clear();
      directory_ids_.clear();
      return false;
    }
    segments_.push_back({buckets, 0, i, depth});
    directory_.push_back(buckets);
    directory_ids_.push_back(i);
  }
  depth_ = depth;
  return true;
}

bool KeyIndex::Insert(uint64_t hash, int64_t key, RowRef ref) {
  if (directory_.empty() && !Reserve(1)) return false;
  for (;;) {
    const uint32_t id = directory_ids_[DirectoryIndex(hash)];
    if (segments_[id].count < kSplitAt) {
      Place(segments_[id].buckets, BucketOf(hash), key, ref);
      ++segments_[id].count;
      ++size_;
      return true;
    }
    if (!TimedSplit(id)) return false;
  }
}

void KeyIndex::Replace(uint64_t hash, int64_t key, RowRef ref) {
  IndexBucket* segment = directory_[DirectoryIndex(hash)];
  for (uint32_t b = BucketOf(hash);; b = (b + 1) & (kBuckets - 1)) {
    const uint32_t match = Matches(segment[b], key);
    if (match == 0) continue;
    segment[b].refs[std::countr_zero(match)] = ref;
    return;
  }
}

RowRef KeyIndex::Erase(uint64_t hash, int64_t key) {
  if (directory_.empty()) return kNoRow;
  const uint32_t id = directory_ids_[DirectoryIndex(hash)];
  Segment& segment = segments_[id];
  const uint32_t home = BucketOf(hash);
  for (uint32_t b = home;; b = (b + 1) & (kBuckets - 1)) {
    IndexBucket& bucket = segment.buckets[b];
    const uint32_t match = Matches(bucket, key);
    if (match == 0) {
      if (bucket.overflow == 0) return kNoRow;
      continue;
    }
    const int i = std::countr_zero(match);
    const RowRef ref = bucket.refs[i];
    Remove(segment.buckets, home, b, i);
    --segment.count;
    --size_;
    if (segment.count <= kMergeAt) MergeSparse(id);
    return ref;
  }
}

}  // namespace mxrec
