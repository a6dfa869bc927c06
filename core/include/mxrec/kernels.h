// Row kernels: what the TensorFlow ops and the table share. Vector versions are chosen at run time
// and equal the scalar reference bit for bit; results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxrec/status.h"

namespace mxrec::kernels {

// out[i] = rows[inverse[i]]. rows: [u, dim], out: [n, dim]; a negative index reads zeros.
MXREC_API void GatherRows(const float* rows, const int32_t* inverse, size_t n, int dim, float* out);
// out[j] = sum of values[i] over i with inverse[i] == j, in ascending i; 0 where there is none.
// values: [n, dim], out: [u, dim]; indices outside [0, u) are ignored.
MXREC_API void SegmentSum(const float* values, const int32_t* inverse, size_t n, size_t u, int dim,
                          float* out);
// Index of the first NaN or infinity in values [n]; n when there is none.
MXREC_API size_t FirstNonFinite(const float* values, size_t n);
// The instruction set in use: "AVX2", "NEON", ...
MXREC_API const char* Target();

}  // namespace mxrec::kernels
