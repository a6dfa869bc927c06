#include "table/read_pipeline.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "table/read_pipeline.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "index/key_hash.h"
#include "util/prefetch.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Keys between two steps: their lines and rows fill two thirds of a 32 KiB first-level cache.
constexpr size_t kLag = 20;
constexpr size_t kRing = 64;  // a power of two above 2 * kLag

// A key on its way, from its hash to its row.
struct InFlight {
  int64_t key;
  const IndexBucket* bucket;
  const float* row;  // null: none
  uint32_t shard;
  uint32_t position;  // in the batch
};

// Bit i: entry i of the bucket holds the key. Compares whole vectors; the lanes behind the keys are
// the bucket's references, and their bits are masked.
HWY_INLINE uint32_t MatchesOf(const IndexBucket& bucket, int64_t key) {
#if HWY_TARGET == HWY_SCALAR
  uint32_t mask = 0;
  for (int i = 0; i < IndexBucket::kEntries; ++i) {
    mask |= static_cast<uint32_t>(bucket.keys[i] == key) << i;
  }
#else
  const hn::CappedTag<int64_t, 8> d;
  const auto wanted = hn::Set(d, key);
  uint32_t mask = 0;
  for (size_t i = 0; i < IndexBucket::kEntries; i += hn::Lanes(d)) {
    uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::Eq(hn::LoadU(d, bucket.keys + i), wanted), bits);
    mask |= static_cast<uint32_t>(bits[0]) << i;
  }
#endif
  return mask & bucket.occupied;
}

// Hot rows are copied at once. Other keys queue up behind each other, so that as many of them are
// under way among hot keys as without.
template <bool kHot, bool kUse>
class Pipeline {
 public:
  Pipeline(const ReadView& view, const kernels::RowCopier& copy, size_t dim, size_t row_bytes,
           const float* absent_row, float* out, UsedRows* used)
      : view_(view),
        copy_(copy),
        dim_(dim),
        row_bytes_(row_bytes),
        absent_row_(absent_row),
        out_(out),
        used_(used),
        whole_vectors_(copy.moves() && dim % hn::Lanes(hn::ScalableTag<float>()) == 0) {}

  template <class Key>
  HWY_INLINE ReadResult Run(const Key* keys, size_t begin, size_t end) {
    size_t hot = 0;
    for (size_t first = begin; first < end; first += kBlock) {
      const size_t n = end - first < kBlock ? end - first : kBlock;
      uint64_t hashes[kBlock];
      if constexpr (!kHot) {
        for (size_t k = 0; k < n; ++k) {
          Advance(keys[first + k], HashKey(keys[first + k]), first + k);
        }
        continue;
      }
      // Hot or not is a coin toss that no branch predictor wins: sort first, then run two loops.
      uint32_t hot_keys[kBlock], other_keys[kBlock];
      size_t hot_count = 0, other_count = 0;
      for (size_t k = 0; k < n; ++k) {
        hashes[k] = HashKey(keys[first + k]);
        const size_t found =
            view_.hot.keys[view_.hot.PlaceOf(hashes[k])] == keys[first + k] ? 1 : 0;
        hot_keys[hot_count] = static_cast<uint32_t>(k);
        hot_count += found;
        other_keys[other_count] = static_cast<uint32_t>(k);
        other_count += 1 - found;
      }
      for (size_t h = 0; h < hot_count; ++h) {
        const size_t k = hot_keys[h];
        const size_t place = view_.hot.PlaceOf(hashes[k]);
        CopyTo(view_.hot.Row(place), first + k);
        if constexpr (kUse) ++used_->hot_uses[place];
      }
      hot += hot_count;
      for (size_t o = 0; o < other_count; ++o) {
        const size_t k = other_keys[o];
        Advance(keys[first + k], hashes[k], first + k);
      }
    }
    while (probed_ < started_) Probe();
    while (copied_ < probed_) Copy();
    copy_.Finish();
    return {end - begin - missing_, hot};
  }

 private:
  static constexpr size_t kBlock = 32;

  // Takes one more key on its way, and those before it one step further.
  HWY_INLINE void Advance(int64_t key, uint64_t hash, size_t position) {
    Start(key, hash, static_cast<uint32_t>(position));
    if (started_ - probed_ > kLag) Probe();
    if (probed_ - copied_ > kLag) Copy();
  }

  HWY_INLINE void Start(int64_t key, uint64_t hash, uint32_t position) {
    InFlight& entry = ring_[started_++ % kRing];
    entry.key = key;
    entry.position = position;
    entry.shard = ShardOf(hash, view_.shard_bits);
    const ReadView::OneShard& shard = view_.shards[entry.shard];
    const uint64_t place = PositionOf(hash, view_.shard_bits);
    entry.bucket = shard.directory[place >> shard.directory_shift] + KeyIndex::BucketOf(hash);
    Prefetch(entry.bucket);
  }

  HWY_INLINE void Probe() {
    InFlight& entry = ring_[probed_++ % kRing];
    const ReadView::OneShard& shard = view_.shards[entry.shard];
    const uint32_t match = MatchesOf(*entry.bucket, entry.key);
    RowRef ref;
    if (match != 0) [[likely]] {
      ref = entry.bucket->refs[std::countr_zero(match)];
    } else {
      ref = entry.bucket->overflow == 0 ? kNoRow : shard.index->Find(HashKey(entry.key), entry.key);
      if (ref == kNoRow) {
        entry.row = nullptr;
        ++missing_;
        if constexpr (kUse) used_->missing.push_back(entry.position);
        return;
      }
    }
    entry.row = shard.rows.Row(ref);
    PrefetchRange(entry.row, row_bytes_);
    if constexpr (kUse) used_->refs[entry.shard].push_back(ref);
  }

  HWY_INLINE void Copy() {
    const InFlight& entry = ring_[copied_++ % kRing];
    CopyTo(entry.row, entry.position);
  }

  HWY_INLINE void CopyTo(const float* row, size_t position) {
    if (whole_vectors_ && row != nullptr) [[likely]] {
      const hn::ScalableTag<float> d;
      float* to = out_ + position * dim_;
      for (size_t c = 0; c < dim_; c += hn::Lanes(d)) hn::StoreU(hn::LoadU(d, row + c), d, to + c);
      return;
    }
    copy_(&row, 1, dim_, absent_row_, out_ + position * dim_);
  }

  const ReadView& view_;
  const kernels::RowCopier& copy_;
  const size_t dim_;
  const size_t row_bytes_;
  const float* const absent_row_;
  float* const out_;
  UsedRows* const used_;
  const bool whole_vectors_;  // rows are copied here, without a call for each
  size_t started_ = 0, probed_ = 0, copied_ = 0;
  size_t missing_ = 0;
  InFlight ring_[kRing];
};

ReadResult RunReads(const ReadView& view, KeySpan keys, size_t begin, size_t end,
                    const kernels::RowCopier& copy, size_t dim, size_t row_bytes,
                    const float* absent_row, float* out, UsedRows* used) {
  return keys.Dispatch([&](const auto* k) {
    const bool hot = view.hot.keys != nullptr;
    const auto run = [&](auto kHot, auto kUse) {
      Pipeline<kHot, kUse> pipeline(view, copy, dim, row_bytes, absent_row, out, used);
      return pipeline.Run(k, begin, end);
    };
    using Yes = std::true_type;
    using No = std::false_type;
    if (used != nullptr) return hot ? run(Yes(), Yes()) : run(No(), Yes());
    return hot ? run(Yes(), No()) : run(No(), No());
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mxrec {
namespace {

HWY_EXPORT(RunReads);

// Where the keys of a shard without segments are looked for.
const IndexBucket kNothing[KeyIndex::kBuckets] = {};
const IndexBucket* const kNoDirectory[1] = {kNothing};

}  // namespace

void MakeReadView(const std::vector<std::unique_ptr<Shard>>& shards, int shard_bits,
                  const HotRows& hot, ReadView* view) {
  view->shard_bits = shard_bits;
  view->hot = hot.view();
  for (size_t s = 0; s < shards.size(); ++s) {
    shards[s]->mu.AssumeHeldShared();  // as the header says
    const KeyIndex::View index = shards[s]->index.view();
    const bool empty = index.directory == nullptr;
    view->shards[s] = {empty ? kNoDirectory : index.directory, empty ? 32 : index.shift,
                       shards[s]->arena->view(), &shards[s]->index};
  }
}

void UsedRows::Clear(int shards, size_t hot_places) {
  for (int s = 0; s < shards; ++s) refs[static_cast<size_t>(s)].clear();
  hot_uses.assign(hot_places, 0);
  missing.clear();
}

ReadResult ReadRange(const ReadView& view, KeySpan keys, size_t begin, size_t end,
                     const kernels::RowCopier& copy, int dim, size_t row_bytes,
                     const float* absent_row, float* out, UsedRows* used) {
  return HWY_DYNAMIC_DISPATCH(RunReads)(view, keys, begin, end, copy, static_cast<size_t>(dim),
                                        row_bytes, absent_row, out, used);
}

}  // namespace mxrec
#endif  // HWY_ONCE
