// TableState: pooled reading.
#include <algorithm>
#include <array>

#include "kernels/pool_bags.h"
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

// What a key without a row reads, always floats.
class AbsentRow {
 public:
  AbsentRow(const float* row, int dim)
      : zeros_(row == nullptr ? static_cast<size_t>(dim) : 0), row_(row) {}
  const float* get() const { return row_ == nullptr ? zeros_.data() : row_; }

 private:
  std::vector<float> zeros_;
  const float* row_;
};

// Null where rows lie in memory as floats.
kernels::LoadRow LoaderOf(const RowFormat& format, const float* absent, size_t dim) {
  if (format.is_float32()) return nullptr;
  return [&format, absent, dim](const float* row, float* out) {
    if (row == absent) {
      std::copy(row, row + dim, out);
    } else {
      format.Load(row, out);
    }
  };
}

}  // namespace

void TableState::ReadPooled(KeySpan keys, const Bags& bags, const float* absent_row,
                            float* out) const {
  const AbsentRow absent(absent_row, dim_);
  const size_t row_bytes = format_.embedding_bytes();
  std::atomic<int64_t> misses{0};
  const kernels::LoadRow load = LoaderOf(format_, absent.get(), static_cast<size_t>(dim_));
  const Locks locks = LockAllShared();
  const auto find = [&](const auto* key, size_t begin, size_t n, const float** rows) {
    std::array<uint64_t, kernels::kPoolWindow> hashes;
    std::array<const Shard*, kernels::kPoolWindow> owners;
    for (size_t j = 0; j < n; ++j) {
      hashes[j] = HashKey(key[begin + j]);
      owners[j] = &ShardAt(ShardOf(hashes[j], shard_bits_));
      owners[j]->mu.AssumeHeldShared();  // `locks`
      Prefetch(owners[j]->index.HomeBucket(hashes[j]));
    }
    int64_t absent_here = 0;
    for (size_t j = 0; j < n; ++j) {
      owners[j]->mu.AssumeHeldShared();
      const RowRef ref = owners[j]->index.Find(hashes[j], key[begin + j]);
      absent_here += ref == kNoRow;
      rows[j] = ref == kNoRow ? absent.get() : owners[j]->arena->Row(ref);
      PrefetchRange(rows[j], row_bytes);
    }
    if (absent_here > 0) misses.fetch_add(absent_here, std::memory_order_relaxed);
  };
  keys.Dispatch([&](const auto* key) {
    kernels::PoolBags(
        bags, dim_, [&](size_t begin, size_t n, const float** rows) { find(key, begin, n, rows); },
        load, out);
  });
  counters_.read_misses.fetch_add(misses, std::memory_order_relaxed);
  counters_.read_hits.fetch_add(static_cast<int64_t>(keys.size()) - misses,
                                std::memory_order_relaxed);
}

void TableState::ReadAddressesPooled(std::span<const int64_t> addresses, KeySpan keys,
                                     const int32_t* inverse, const Bags& bags,
                                     const float* absent_row, float* out) const {
  const AbsentRow absent(absent_row, dim_);
  const size_t row_bytes = format_.embedding_bytes();
  const auto row_of = std::make_unique_for_overwrite<const float*[]>(addresses.size());
  const Locks locks = LockAllShared();
  WorkerPool::Get().RunRanges(addresses.size(), kParallelKeys, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + kernels::kPoolWindow < end && addresses[i + kernels::kPoolWindow] >= 0) {
        const Address ahead = Address::Unpack(addresses[i + kernels::kPoolWindow], shard_bits_);
        ShardAt(ahead.shard).mu.AssumeHeldShared();  // `locks`
        const RowArena& arena = *ShardAt(ahead.shard).arena;
        if (ahead.slot < arena.slots()) Prefetch(&arena.Meta(ahead.slot));
      }
      const float* row = nullptr;
      if (addresses[i] >= 0) {
        const Address address = Address::Unpack(addresses[i], shard_bits_);
        const RowRef ref = RowAt(address);
        ShardAt(address.shard).mu.AssumeHeldShared();
        if (ref != kNoRow) row = ShardAt(address.shard).arena->Row(ref);
      }
      if (row == nullptr) row = FindRow(keys[i]);
      row_of[i] = row == nullptr ? absent.get() : row;
    }
  });
  const auto find = [&](size_t begin, size_t n, const float** rows) {
    for (size_t j = 0; j < n; ++j) {
      rows[j] = row_of[static_cast<size_t>(inverse[begin + j])];
      PrefetchRange(rows[j], row_bytes);
    }
  };
  kernels::PoolBags(bags, dim_, find, LoaderOf(format_, absent.get(), static_cast<size_t>(dim_)),
                    out);
}

}  // namespace mxrec
