// UniqueWriter: writes what a caller of Resolve gets for each distinct key, at the place that the
// key's first occurrence gives it.
//
// Held by value in loops over many keys, so that none of its fields is read again for each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_set>

#include "batch/key_batch.h"
#include "mxrec/table.h"
#include "table/row_format.h"

namespace mxrec {

class UniqueWriter {
 public:
  // batch: numbered. absent_row: [dim], or null for zeros. padding: keys whose address is told to
  // nobody.
  UniqueWriter(const UniqueOutput& to, KeyBatch* batch, const RowFormat& format, int dim,
               const float* absent_row, const std::unordered_set<int64_t>& padding)
      : to_(to),
        keys_(batch->key.data()),
        counts_(batch->count.data()),
        first_(batch->first.data()),
        rank_at_(batch->rank_at()),
        rank_of_(batch->rank_of.data()),
        format_(format),
        dim_(static_cast<size_t>(dim)),
        absent_row_(absent_row),
        padding_(padding.empty() ? nullptr : &padding) {}

  bool wants_rows() const { return to_.rows != nullptr; }

  // Of unique key u. row: null for a key that has none.
  void Write(size_t u, int64_t address, const float* row) const {
    const uint32_t rank = rank_at_[first_[u]];
    rank_of_[u] = rank;
    if (to_.keys != nullptr) to_.keys[rank] = keys_[u];
    if (to_.counts != nullptr) to_.counts[rank] = counts_[u];
    if (to_.addresses != nullptr) {
      const bool hidden = padding_ != nullptr && padding_->contains(keys_[u]);
      to_.addresses[rank] = hidden ? kNoAddress : address;
    }
    if (to_.rows == nullptr) return;
    if (row != nullptr) [[likely]] {
      format_.Load(row, to_.rows + rank * dim_);
    } else if (absent_row_ != nullptr) {
      std::copy_n(absent_row_, dim_, to_.rows + rank * dim_);
    } else {
      std::fill_n(to_.rows + rank * dim_, dim_, 0.0f);
    }
  }

 private:
  const UniqueOutput to_;
  const int64_t* const keys_;
  const uint32_t* const counts_;
  const uint32_t* const first_;
  const uint32_t* const rank_at_;
  uint32_t* const rank_of_;
  const RowFormat format_;
  const size_t dim_;
  const float* const absent_row_;
  const std::unordered_set<int64_t>* const padding_;
};

}  // namespace mxrec
