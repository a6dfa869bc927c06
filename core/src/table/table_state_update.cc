// TableState: updating rows by gradients.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/magnitude.h"
#include "mxrec/runtime.h"
#include "table/gradient_range.h"
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kUpdateBlock = 128;  // rows whose summed gradients stay in the L2 cache
constexpr size_t kAhead = 16;

// The occurrences of each unique key of a shard, in batch order.
class Occurrences {
 public:
  Occurrences(const KeyBatch& batch, uint32_t s)
      : batch_(batch),
        base_(batch.begin(s)),
        distinct_(batch.unique_end(s) - base_ == batch.end(s) - base_) {
    if (distinct_) return;
    const size_t uniques = batch.unique_end(s) - base_;
    start_.resize(uniques + 1);
    start_[0] = 0;
    for (size_t u = 0; u < uniques; ++u) start_[u + 1] = start_[u] + batch.count[base_ + u];
    positions_.resize(batch.end(s) - base_);
    std::vector<uint32_t> next(start_.begin(), start_.end() - 1);
    for (size_t j = base_; j < batch.end(s); ++j) {
      positions_[next[batch.unique_of[j] - base_]++] = batch.position[j];
    }
  }
  std::span<const uint32_t> of(size_t u) const {
    if (distinct_) return {&batch_.first[u], 1};
    return {positions_.data() + start_[u - base_], batch_.count[u]};
  }

 private:
  const KeyBatch& batch_;
  size_t base_;
  bool distinct_;
  std::vector<uint32_t> start_;
  std::vector<uint32_t> positions_;
};

// sum: [dim]; in the order of positions.
void SumRows(const float* grads, std::span<const uint32_t> positions, size_t dim, float* sum) {
  const float* first = grads + positions[0] * dim;
  for (size_t c = 0; c < dim; ++c) sum[c] = first[c];
  for (const uint32_t position : positions.subspan(1)) {
    const float* grad = grads + position * dim;
    for (size_t c = 0; c < dim; ++c) sum[c] += grad[c];
  }
}

// *may_overflow: the sum of all gradients of the batch could leave the range of float.
Status CheckFinite(const float* grads, size_t n, int dim, bool* may_overflow) {
  std::atomic<uint32_t> largest{0};  // bits of a magnitude, which order like magnitudes
  WorkerPool::Get().RunRanges(n, size_t{1} << 16, [&](size_t begin, size_t end) {
    const float magnitude = kernels::LargestMagnitude(grads + begin, end - begin);
    const auto here = std::bit_cast<uint32_t>(magnitude);
    for (uint32_t seen = largest; here > seen && !largest.compare_exchange_weak(seen, here);) {
    }
  });
  const float magnitude = std::bit_cast<float>(largest.load());
  if (std::isfinite(magnitude)) {
    *may_overflow = MayOverflow(magnitude, n / static_cast<size_t>(dim));
    return {};
  }
  const size_t at = kernels::FirstNonFinite(grads, n);
  return InvalidArgument("grads[" + std::to_string(at / static_cast<size_t>(dim)) + ", " +
                         std::to_string(at % static_cast<size_t>(dim)) +
                         "] is NaN or infinite; gradients must be finite, nothing was updated. "
                         "Lower the learning rate or clip the gradients");
}

}  // namespace

Status TableState::UpdateSums(KeyBatch* batch, KeyBatch::Grouping grouping, const float* grads,
                              float learning_rate, bool check_sums, std::atomic<int64_t>* step,
                              ApplyResult* result) {
  std::atomic<int64_t> updated{0};
  std::atomic<int64_t> skipped{0};
  const auto dim = static_cast<size_t>(dim_);
  // Everything that allocates comes before the first row changes.
  std::vector<std::unique_ptr<Occurrences>> occurrences(shards());
  std::vector<std::vector<float>> scratch(shards());
  std::atomic<bool> overflow{false};
  const bool ok = ForEachShard(batch->size(), [&](uint32_t s) {
    batch->Deduplicate(s);
    occurrences[s] = std::make_unique<Occurrences>(*batch, s);
    const size_t uniques = batch->unique_end(s) - batch->begin(s);
    scratch[s].resize(std::min(uniques, kUpdateBlock) * dim);
    for (size_t u = batch->begin(s); check_sums && u < batch->unique_end(s); ++u) {
      SumRows(grads, occurrences[s]->of(u), dim, scratch[s].data());
      if (kernels::FirstNonFinite(scratch[s].data(), dim) < dim) overflow = true;
    }
  });
  if (!ok) throw std::bad_alloc();
  if (overflow) {
    return InvalidArgument(
        "grads: the sum of the gradients of a repeated key overflows; nothing was updated. Lower "
        "the learning rate or clip the gradients");
  }
  const StepParams params{.learning_rate = learning_rate, .step = ++*step};

  ForEachShard(batch->size(), [&](uint32_t s) {
    const size_t b = batch->begin(s);
    const size_t e = batch->unique_end(s);
    if (b == e) return;
    Shard& shard = ShardAt(s);
    const ExclusiveLock lock(shard.mu);
    if (grouping == KeyBatch::Grouping::kKeys) {
      FindInShard(shard, batch, s);
      for (size_t u = b; u < e; ++u) {
        if (IsPadding(batch->key[u])) batch->ref[u] = kNoRow;
      }
    } else {
      for (size_t u = b; u < e; ++u) {
        const int64_t address = batch->key[u];
        // Canonical, and no other change since.
        batch->ref[u] = address == kNoAddress ? kNoRow : Address::Unpack(address, shard_bits_).slot;
      }
    }
    std::array<float*, kUpdateBlock> rows;
    std::array<RowRef, kUpdateBlock> refs;
    size_t filled = 0;
    int64_t here = 0;
    const auto flush = [&] {
      UpdateRows(rows.data(), scratch[s].data(), filled, params);
      for (size_t i = 0; i < filled; ++i) hot_.WriteThrough(s, refs[i], rows[i]);
      here += static_cast<int64_t>(filled);
      filled = 0;
    };
    for (size_t u = b; u < e; ++u) {
      if (u + kAhead < e) {
        PrefetchRange(grads + batch->first[u + kAhead] * dim, dim * sizeof(float));
      }
      if (batch->ref[u] == kNoRow) continue;
      refs[filled] = batch->ref[u];
      rows[filled] = shard.arena->Row(batch->ref[u]);
      if (tracker_.active()) {
        tracker_.Touch(s, refs[filled],
                       grouping == KeyBatch::Grouping::kKeys ? &batch->key[u] : nullptr,
                       &shard.arena->Meta(refs[filled]), rows[filled]);
      }
      PrefetchRange(rows[filled], format_.stored_floats(slots_) * sizeof(float));
      SumRows(grads, occurrences[s]->of(u), dim, scratch[s].data() + filled * dim);
      if (++filled == kUpdateBlock) flush();
    }
    flush();
    updated += here;
    skipped += static_cast<int64_t>(e - b) - here;
  });
  counters_.skipped += skipped;
  *result = {updated, skipped};
  return {};
}

Status TableState::ApplyToKeys(KeySpan keys, const float* grads, float learning_rate,
                               std::atomic<int64_t>* step, ApplyResult* result) {
  bool may_overflow = false;
  MXREC_RETURN_IF_ERROR(
      CheckFinite(grads, keys.size() * static_cast<size_t>(dim_), dim_, &may_overflow));
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, shard_bits_, KeyBatch::Grouping::kKeys);
  return UpdateSums(batch.get(), KeyBatch::Grouping::kKeys, grads, learning_rate, may_overflow,
                    step, result);
}

Status TableState::ApplyToAddresses(std::span<const int64_t> addresses, const float* grads,
                                    float learning_rate, StaleAddress policy,
                                    std::atomic<int64_t>* step, ApplyResult* result) {
  if (UpdateDistinct(addresses, grads, learning_rate, step, result)) return {};
  bool may_overflow = false;
  MXREC_RETURN_IF_ERROR(
      CheckFinite(grads, addresses.size() * static_cast<size_t>(dim_), dim_, &may_overflow));
  std::vector<int64_t> current(addresses.size());
  MXREC_RETURN_IF_ERROR(Canonicalize(addresses, policy, current.data()));
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(current, shard_bits_, KeyBatch::Grouping::kAddresses);
  return UpdateSums(batch.get(), KeyBatch::Grouping::kAddresses, grads, learning_rate, may_overflow,
                    step, result);
}

}  // namespace mxrec
