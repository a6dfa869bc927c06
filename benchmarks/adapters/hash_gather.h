// What memory allows: an index of int64 -> row number and rows of one width, without growth, locks,
// metadata or optimizer state. Lookups only. The bar that mxrec is held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "adapters/adapter.h"
#include "memory.h"

namespace mxrec::bench {

class HashGather {
 public:
  static constexpr const char* kName = "hash+gather";

  static bool Supports(int dim) { return dim % 8 == 0; }

  explicit HashGather(const AdapterOptions& options);

  void Insert(Keys keys, const float* values);
  void Find(Keys keys, float* out) const;
  // The rows of known row numbers (in the order of insertion): a lookup without its hashing.
  void Gather(std::span<const int64_t> rows, float* out) const;
  int64_t size() const { return size_; }

 private:
  struct Entry {
    int64_t key;
    uint32_t row;  // plus 1; 0: the entry is empty
    uint32_t unused;
  };
  struct alignas(64) Bucket {
    Entry entries[4];
  };
  static_assert(sizeof(Bucket) == 64);

  const Bucket& BucketOf(int64_t key) const;
  uint32_t RowOf(int64_t key) const;
  template <int kDim>
  void FindRange(Keys keys, float* out) const;
  template <int kDim>
  void GatherRange(std::span<const int64_t> rows, float* out) const;

  size_t dim_;
  int64_t capacity_;
  int64_t size_ = 0;
  uint64_t mask_;
  HugeBuffer index_;
  HugeBuffer rows_;
};

}  // namespace mxrec::bench
