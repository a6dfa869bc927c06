#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

namespace mxrec {

// Whether the sum of `rows` gradients of at most this magnitude could leave the range of float.
inline bool MayOverflow(float magnitude, size_t rows) {
  return magnitude >
         std::numeric_limits<float>::max() / static_cast<float>(2 * std::max<size_t>(rows, 1));
}

}  // namespace mxrec
