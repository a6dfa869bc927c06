// Row kernels: what the TensorFlow ops and the table share. Vector versions are chosen at run time
// and equal the scalar reference bit for bit; results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxrec/status.h"

namespace mxrec::kernels {

// Copies n rows, given by pointers, to out [n, dim]; a null pointer reads absent_row [dim] or, when
// that is null too, zeros.
using CopyRowsFn = void (*)(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                            float* out);

// The copy kernel of one batch, chosen once. A thread that has called it calls Finish() after its
// last copy and before it lets another thread read `out`: streaming stores are weakly ordered.
class RowCopier {
 public:
  // moves: the kernel copies floats as they are, by ordinary stores, so a loop over single rows may
  // do it in place of a call.
  RowCopier(CopyRowsFn copy, bool streams, bool moves = false)
      : copy_(copy), streams_(streams), moves_(moves) {}

  void operator()(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                  float* out) const {
    copy_(rows, n, dim, absent_row, out);
  }
  MXREC_API void Finish() const;
  bool streams() const { return streams_; }
  bool moves() const { return moves_; }

 private:
  CopyRowsFn copy_;
  bool streams_;
  bool moves_;
};

// Honours the gather mode (runtime.h). dim: the `dim` of the calls to come; output_bytes: of the
// whole batch. Outputs of StreamingThresholdBytes() and more go past the caches.
MXREC_API RowCopier ChooseRowCopier(int dim, size_t output_bytes);
MXREC_API size_t StreamingThresholdBytes();
// For tests and benchmarks; 0, the default: half of the last-level cache.
MXREC_API void SetStreamingThresholdBytes(size_t bytes);

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
