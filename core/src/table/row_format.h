// RowFormat: how a row lies in memory, and the only way embeddings go in and out of it.
//
//   float32             embedding [dim] float32              | slots, float32
//   float16, bfloat16   embedding [dim] of 16 bits, padding  | slots, float32
//   with stochastic     embedding [dim] of 16 bits, padding, |
//   rounding              identity: 32 bits of the key       | slots, float32
//
// The padding is to 4 bytes; the slots begin slots_at() floats behind the row's start. What a
// 16-bit row holds is what kernels/half_bits.h rounds to: never an infinity.
//
// Thread safety: immutable; rows are guarded by their shard's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/half.h"
#include "mxrec/options.h"
#include "optimizers/optimizer.h"

namespace mxrec {

class RowFormat {
 public:
  // options: validated.
  explicit RowFormat(const TableOptions& options);

  ValueType type() const { return type_; }
  bool is_float32() const { return type_ == ValueType::kFloat32; }
  size_t slots_at() const { return slots_at_; }
  // Floats' worth of memory of a whole row.
  size_t stored_floats(int slots) const { return slots_at_ + static_cast<size_t>(slots) * dim_; }
  // Bytes that hold the embedding.
  size_t embedding_bytes() const {
    return dim_ * (is_float32() ? sizeof(float) : sizeof(uint16_t));
  }

  // out: [dim].
  void Load(const float* row, float* out) const {
    if (is_float32()) [[likely]] {
      Copy(row, out);
    } else {
      kernels::PromoteRow(type_, reinterpret_cast<const uint16_t*>(row), dim_, out);
    }
  }
  // Load for a batch of n rows: pointers to rows, or null for keys that have none.
  kernels::RowCopier ChooseCopier(size_t n) const {
    if (is_float32()) {
      return kernels::ChooseRowCopier(static_cast<int>(dim_), n * dim_ * sizeof(float));
    }
    return kernels::ChoosePromotingCopier(type_);
  }
  // values: [dim]; rounded to nearest.
  void Store(const float* values, float* row) const {
    if (is_float32()) [[likely]] {
      Copy(values, row);
    } else {
      kernels::DemoteRow(type_, values, dim_, reinterpret_cast<uint16_t*>(row));
    }
  }
  // Once for every new row: what stochastic rounding knows it by.
  void Identify(int64_t key, float* row) const {
    if (stochastic_) WriteIdentity(key, row);
  }

  // Updates n rows (Optimizer::Update) that lie in this format. float32 rows are updated in place.
  void Update(const Optimizer& optimizer, int slots, float* const* rows, const float* grads,
              size_t n, const StepParams& step) const {
    if (is_float32()) [[likely]] {
      optimizer.Update(rows, grads, n, static_cast<int>(dim_), step);
    } else {
      UpdateHalf(optimizer, slots, rows, grads, n, step);
    }
  }

 private:
  // Whole cache lines as fixed-size copies; most dims are multiples of 16.
  void Copy(const float* from, float* to) const {
    size_t c = 0;
    for (; c + 16 <= dim_; c += 16) std::memcpy(to + c, from + c, 64);
    if (c < dim_) std::memcpy(to + c, from + c, (dim_ - c) * sizeof(float));
  }
  size_t identity_at() const { return slots_at_ - 1; }
  void WriteIdentity(int64_t key, float* row) const;
  void StoreUpdated(const float* values, int64_t step, float* row) const;
  void UpdateHalf(const Optimizer& optimizer, int slots, float* const* rows, const float* grads,
                  size_t n, const StepParams& step) const;

  size_t dim_;
  ValueType type_;
  bool stochastic_;
  uint64_t seed_;
  size_t slots_at_;
};

}  // namespace mxrec
