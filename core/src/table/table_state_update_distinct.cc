// TableState: updating rows by gradients whose addresses are all current and all different, as
// those of one lookup are. There is nothing to group and nothing to sum: the batch is checked in
// one pass over it and updated in a second.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/magnitude.h"
#include "table/gradient_range.h"
#include "table/table_state.h"
#include "util/prefetch.h"
#include "util/scratch_pool.h"

namespace mxrec {
namespace {

constexpr size_t kCheckBlock = 1024;  // addresses whose own ones stay in the L1 cache
constexpr size_t kWindow = 32;        // addresses in flight: covers the latency of memory
constexpr size_t kCheckGrain = 4096;
constexpr size_t kUpdateGrain = 1024;
// A part of the check owns whole cache lines of marks, so that parts share nothing they write.
constexpr int kLineBits = 9;  // log2 of the marks of a line

struct UpdateScratch {
  Buffer<float*> rows;  // by batch position; null: padding
  size_t kept_bytes() const { return rows.capacity_bytes(); }
};

// A row's place in the marks: its slot among those of all shards.
uint64_t PlaceOf(int64_t address) {
  return static_cast<uint64_t>(address) & ((uint64_t{1} << kSlotBits) - 1);
}

bool IsGeneration(const RowMeta& meta, int64_t address) {
  return meta.generation == static_cast<uint16_t>(address >> kSlotBits);
}

// One part of the check: the addresses whose place lies in its lines.
struct Owner {
  uint64_t index;
  uint64_t parts;  // a power of two

  // Writes the own ones of the positions [begin, end) to own; returns their number.
  size_t Positions(std::span<const int64_t> addresses, size_t begin, size_t end,
                   uint32_t* own) const {
    size_t found = 0;
    for (size_t i = begin; i < end; ++i) {
      own[found] = static_cast<uint32_t>(i);
      found += ((static_cast<uint64_t>(addresses[i]) >> kLineBits) & (parts - 1)) == index;
    }
    return found;
  }
};

}  // namespace

bool TableState::UpdateDistinct(std::span<const int64_t> addresses, const float* grads,
                                float learning_rate, std::atomic<int64_t>* step,
                                ApplyResult* result) {
  const size_t n = addresses.size();
  const auto dim = static_cast<size_t>(dim_);
  WorkerPool& pool = WorkerPool::Get();
  const auto scratch = ScratchPool<UpdateScratch>::Acquire();
  scratch->rows.Reserve(n);
  float** rows = scratch->rows.data();
  // No slot comes or goes while the caller holds the table's changes.
  std::vector<RowArena*> arenas;
  uint32_t slots = 0;
  for (const auto& shard : shards_) {
    shard->mu.AssumeHeldShared();
    arenas.push_back(shard->arena.get());
    slots = std::max(slots, shard->arena->slots());
  }
  const uint64_t places = static_cast<uint64_t>(slots) << shard_bits_;
  if (marks_.size() * 64 < places) {
    marks_.resize((places + 63) / 64);
    marks_bytes_ = static_cast<int64_t>(marks_.capacity() * sizeof(uint64_t));
  }
  uint64_t* marks = marks_.data();
  // What the check of one address reads and writes; null: no row of this table could have it.
  struct Target {
    RowArena* arena;
    const RowMeta* meta;
    uint64_t* word;
    uint64_t bit;
    uint32_t slot;
  };
  const auto find = [&](int64_t packed) -> Target {
    const Address address = Address::Unpack(packed, shard_bits_);
    if (packed < 0 || address.tag != tag_ || (address.generation & 1) == 0) return {};
    RowArena& arena = *arenas[address.shard];
    if (address.slot >= arena.slots()) return {};
    const uint64_t place = PlaceOf(packed);
    return {&arena, &arena.Meta(address.slot), marks + place / 64, uint64_t{1} << (place % 64),
            address.slot};
  };
  std::atomic<bool> plain{true};
  std::atomic<int64_t> padding{0};
  std::atomic<bool> large{false};
  const auto check = [&](size_t p, size_t parts) {
    const size_t from = n * p / parts, to = n * (p + 1) / parts;
    const float magnitude = kernels::LargestMagnitude(grads + from * dim, (to - from) * dim);
    if (!std::isfinite(magnitude)) plain = false;
    if (MayOverflow(magnitude, n)) large = true;

    const Owner owner{p, parts};
    std::array<uint32_t, kCheckBlock> own;
    int64_t padded = 0;
    size_t checked = 0;  // positions
    for (; checked < n && plain.load(std::memory_order_relaxed); checked += kCheckBlock) {
      const size_t found =
          owner.Positions(addresses, checked, std::min(n, checked + kCheckBlock), own.data());
      for (size_t w = 0; w < found; w += kWindow) {
        const size_t m = std::min(kWindow, found - w);
        std::array<Target, kWindow> targets;
        for (size_t k = 0; k < m; ++k) {
          targets[k] = find(addresses[own[w + k]]);
          Prefetch(targets[k].meta);
          Prefetch(targets[k].word);
        }
        for (size_t k = 0; k < m; ++k) {
          const Target& target = targets[k];
          const size_t i = own[w + k];
          if (target.arena == nullptr || !IsGeneration(*target.meta, addresses[i]) ||
              (*target.word & target.bit) != 0) {
            rows[i] = nullptr;
            if (addresses[i] == kNoAddress) {
              ++padded;
            } else {
              plain = false;
            }
            continue;
          }
          rows[i] = target.arena->Row(target.slot);
          *target.word |= target.bit;
        }
      }
    }
    for (size_t begin = 0; begin < std::min(checked, n); begin += kCheckBlock) {
      const size_t found =
          owner.Positions(addresses, begin, std::min(n, begin + kCheckBlock), own.data());
      for (size_t k = 0; k < found; ++k) {
        const uint64_t place = PlaceOf(addresses[own[k]]);
        if (place < places) marks[place / 64] = 0;
      }
    }
    padding += padded;
  };
  const size_t threads = static_cast<size_t>(std::max(1, pool.num_threads()));
  const size_t parts = std::bit_floor(
      std::clamp<size_t>(std::min(n / kCheckGrain, (places >> kLineBits) / 8), 1, threads));
  pool.Run(parts, [&](size_t p) { check(p, parts); });
  if (!plain) return false;
  // Gradients of padding count as those of one key, whose sum must not overflow.
  if (padding > 1 && large) return false;

  const StepParams params{.learning_rate = learning_rate, .step = *step + 1};
  std::vector<std::unique_lock<SharedMutex>> locks;
  locks.reserve(shards_.size());
  for (const auto& shard : shards_) locks.emplace_back(shard->mu);
  pool.RunRanges(n, kUpdateGrain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end;) {
      if (rows[i] == nullptr) {
        ++i;
        continue;
      }
      const size_t run = i;
      while (i < end && rows[i] != nullptr) ++i;
      for (size_t k = run; tracker_.active() && k < i; ++k) {
        const Address address = Address::Unpack(addresses[k], shard_bits_);
        tracker_.Touch(address.shard, address.slot, nullptr,
                       &arenas[address.shard]->Meta(address.slot), rows[k]);
      }
      UpdateRows(rows + run, grads + run * dim, i - run, params);
      if (!hot_.any()) continue;
      for (size_t k = run; k < i; ++k) {
        const Address address = Address::Unpack(addresses[k], shard_bits_);
        hot_.WriteThrough(address.shard, address.slot, rows[k]);
      }
    }
  });
  ++*step;
  const int64_t skipped = padding > 0 ? 1 : 0;
  counters_.skipped += skipped;
  *result = {static_cast<int64_t>(n) - padding, skipped};
  return true;
}

}  // namespace mxrec
