// Rows of one width for maps that store pointers: large blocks on huge pages, and the rows of
// erased keys for the next ones.
#pragma once

#include <cstddef>
#include <vector>

#include "memory.h"

namespace mxrec::bench {

class Arena {
 public:
  explicit Arena(size_t row_floats) : row_floats_(row_floats) {}

  float* New() {
    if (!free_.empty()) {
      float* row = free_.back();
      free_.pop_back();
      return row;
    }
    if (used_ == rows_per_block()) {
      blocks_.emplace_back(kBlockBytes);
      used_ = 0;
    }
    return blocks_.back().as<float>() + row_floats_ * used_++;
  }
  void Free(float* row) { free_.push_back(row); }

 private:
  static constexpr size_t kBlockBytes = size_t{16} << 20;

  size_t rows_per_block() const {
    return blocks_.empty() ? 0 : kBlockBytes / (row_floats_ * sizeof(float));
  }

  size_t row_floats_;
  size_t used_ = 0;  // rows of the last block
  std::vector<HugeBuffer> blocks_;
  std::vector<float*> free_;
};

}  // namespace mxrec::bench
