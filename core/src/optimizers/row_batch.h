// RowBatch: the rows of one update, as every kernel takes them.
#pragma once

#include <cstddef>

namespace mxrec {

struct RowBatch {
  float* const* rows;  // [n]; slot s of a row at rows[i] + (1 + s) * dim
  const float* grads;  // [n, dim]
  size_t n;
  size_t dim;
};

}  // namespace mxrec
