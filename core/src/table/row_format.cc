#include "table/row_format.h"

#include <algorithm>
#include <array>

#include "kernels/half_bits.h"

namespace mxrec {
namespace {

constexpr size_t kMaxSlots = 2;
constexpr size_t kMaxRowFloats = (1 + kMaxSlots) * kMaxDim;
constexpr size_t kScratchRows = 128;
constexpr size_t kScratchFloats = 8192;  // stays in the L1 cache, unless one row is longer

size_t SlotsAt(const TableOptions& options) {
  const auto dim = static_cast<size_t>(options.dim);
  if (options.value_type == ValueType::kFloat32) return dim;
  return (dim + 1) / 2 + (options.stochastic_rounding ? 1 : 0);
}

}  // namespace

RowFormat::RowFormat(const TableOptions& options)
    : dim_(static_cast<size_t>(options.dim)),
      type_(options.value_type),
      stochastic_(options.stochastic_rounding),
      seed_(options.seed),
      slots_at_(SlotsAt(options)) {}

void RowFormat::WriteIdentity(int64_t key, float* row) const {
  const uint32_t identity = kernels::RoundingIdentity(seed_, key);
  std::memcpy(row + identity_at(), &identity, sizeof(identity));
}

void RowFormat::StoreUpdated(const float* values, int64_t step, float* row) const {
  if (!stochastic_) {
    Store(values, row);
    return;
  }
  uint32_t identity;
  std::memcpy(&identity, row + identity_at(), sizeof(identity));
  kernels::DemoteRowStochastic(type_, values, dim_, kernels::RoundingStream(identity, step),
                               reinterpret_cast<uint16_t*>(row));
}

// In float32 copies of a few rows at a time, so that one set of optimizer kernels does for all
// formats.
void RowFormat::UpdateHalf(const Optimizer& optimizer, int slots, float* const* rows,
                           const float* grads, size_t n, const StepParams& step) const {
  alignas(64) float scratch[kMaxRowFloats];
  std::array<float*, kScratchRows> copies;
  const size_t slot_floats = static_cast<size_t>(slots) * dim_;
  const size_t width = dim_ + slot_floats;
  const size_t block = std::clamp<size_t>(kScratchFloats / width, 1, kScratchRows);
  for (size_t i = 0; i < block; ++i) copies[i] = scratch + i * width;
  for (size_t begin = 0; begin < n; begin += block) {
    const size_t m = std::min(block, n - begin);
    for (size_t i = 0; i < m; ++i) {
      const float* row = rows[begin + i];
      Load(row, copies[i]);
      std::memcpy(copies[i] + dim_, row + slots_at_, slot_floats * sizeof(float));
    }
    optimizer.Update(copies.data(), grads + begin * dim_, m, static_cast<int>(dim_), step);
    for (size_t i = 0; i < m; ++i) {
      float* row = rows[begin + i];
      StoreUpdated(copies[i], step.step, row);
      std::memcpy(row + slots_at_, copies[i] + dim_, slot_floats * sizeof(float));
    }
  }
}

}  // namespace mxrec
