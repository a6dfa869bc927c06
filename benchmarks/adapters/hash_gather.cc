#include "adapters/hash_gather.h"

#include <bit>
#include <cstdio>
#include <cstdlib>

namespace mxrec::bench {
namespace {

constexpr size_t kAhead = 24;  // keys between prefetching a line and using it

uint64_t Mix(int64_t key) {
  const uint64_t product = static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull;
  return product ^ (product >> 32);
}

template <int kDim>
void PrefetchRow(const float* row, size_t dim) {
  const size_t floats = kDim > 0 ? kDim : dim;
  for (size_t c = 0; c < floats; c += 16) __builtin_prefetch(row + c);
}

template <int kDim>
void Copy(const float* from, size_t dim, float* to) {
  CopyRow(from, kDim > 0 ? kDim : dim, to);
}

}  // namespace

HashGather::HashGather(const AdapterOptions& options)
    : dim_(static_cast<size_t>(options.dim)), capacity_(options.expected_rows) {
  if (capacity_ < 1 || capacity_ > INT64_C(0xFFFFFFFE)) {
    std::fprintf(stderr, "hash+gather: expected_rows is %lld, expected [1, 2^32 - 2]\n",
                 static_cast<long long>(capacity_));
    std::abort();
  }
  const auto entries = static_cast<uint64_t>(static_cast<double>(capacity_) * 1.25);
  const uint64_t buckets = std::bit_ceil(entries / 4 + 1);
  mask_ = buckets - 1;
  index_ = HugeBuffer(buckets * sizeof(Bucket));
  rows_ = HugeBuffer(static_cast<size_t>(capacity_) * dim_ * sizeof(float));
}

const HashGather::Bucket& HashGather::BucketOf(int64_t key) const {
  return index_.as<Bucket>()[Mix(key) & mask_];
}

uint32_t HashGather::RowOf(int64_t key) const {
  for (uint64_t b = Mix(key) & mask_;; b = (b + 1) & mask_) {
    for (const Entry& entry : index_.as<Bucket>()[b].entries) {
      if (entry.key == key && entry.row != 0) return entry.row - 1;
    }
  }
}

void HashGather::Insert(Keys keys, const float* values) {
  for (size_t i = 0; i < keys.size(); ++i) {
    Entry* place = nullptr;
    for (uint64_t b = Mix(keys[i]) & mask_; place == nullptr; b = (b + 1) & mask_) {
      for (Entry& entry : index_.as<Bucket>()[b].entries) {
        if (entry.row != 0 && entry.key != keys[i]) continue;
        place = &entry;
        break;
      }
    }
    if (place->row == 0) {
      if (size_ == capacity_) {
        std::fprintf(stderr, "hash+gather: more than the expected %lld rows\n",
                     static_cast<long long>(capacity_));
        std::abort();
      }
      *place = {keys[i], static_cast<uint32_t>(++size_), 0};
    }
    CopyRow(values + i * dim_, dim_, rows_.as<float>() + (place->row - 1) * dim_);
  }
}

// Three stages of a pipeline: while row i is copied, row i + kAhead is on its way, and the bucket
// of key i + 2 kAhead.
template <int kDim>
void HashGather::FindRange(Keys keys, float* out) const {
  const size_t dim = kDim > 0 ? kDim : dim_;
  const float* rows = rows_.as<float>();
  const size_t n = keys.size();
  const float* pending[kAhead];
  size_t slot = 0;
  for (size_t i = 0; i < n + 2 * kAhead; ++i) {
    const float* ready = pending[slot];
    // Keys that are not there yet, or no more, skip their stage at the ends of the batch.
    const bool probes = i >= kAhead && i - kAhead < n;
    const bool copies = i >= 2 * kAhead;
    if (i < n) __builtin_prefetch(&BucketOf(keys[i]));
    if (probes) {
      pending[slot] = rows + RowOf(keys[i - kAhead]) * dim;
      PrefetchRow<kDim>(pending[slot], dim);
    }
    if (copies) Copy<kDim>(ready, dim, out + (i - 2 * kAhead) * dim);
    slot = slot + 1 == kAhead ? 0 : slot + 1;
  }
}

template <int kDim>
void HashGather::GatherRange(std::span<const int64_t> ids, float* out) const {
  const size_t dim = kDim > 0 ? kDim : dim_;
  const float* rows = rows_.as<float>();
  const size_t n = ids.size();
  for (size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) PrefetchRow<kDim>(rows + ids[i + kAhead] * dim, dim);
    Copy<kDim>(rows + ids[i] * dim, dim, out + i * dim);
  }
}

namespace {

// Calls call(std::integral_constant<int, dim>), of 0 for widths that are not compiled in.
template <typename Call>
void WithDim(size_t dim, const Call& call) {
  switch (dim) {
    case 8:
      return call(std::integral_constant<int, 8>());
    case 16:
      return call(std::integral_constant<int, 16>());
    case 32:
      return call(std::integral_constant<int, 32>());
    case 64:
      return call(std::integral_constant<int, 64>());
    case 128:
      return call(std::integral_constant<int, 128>());
    default:
      return call(std::integral_constant<int, 0>());
  }
}

}  // namespace

void HashGather::Find(Keys keys, float* out) const {
  WithDim(dim_, [&]<int kDim>(std::integral_constant<int, kDim>) {
    InParallel(keys.size(), [&](size_t begin, size_t end) {
      FindRange<kDim>(keys.subspan(begin, end - begin), out + begin * dim_);
    });
  });
}

void HashGather::Gather(std::span<const int64_t> rows, float* out) const {
  WithDim(dim_, [&]<int kDim>(std::integral_constant<int, kDim>) {
    InParallel(rows.size(), [&](size_t begin, size_t end) {
      GatherRange<kDim>(rows.subspan(begin, end - begin), out + begin * dim_);
    });
  });
}

}  // namespace mxrec::bench
