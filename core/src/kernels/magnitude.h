#pragma once

#include <cstddef>

namespace mxrec::kernels {

// The largest |values[i]|, 0 for none; not finite exactly when some value is not. The calling
// thread's work alone.
float LargestMagnitude(const float* values, size_t n);

}  // namespace mxrec::kernels
