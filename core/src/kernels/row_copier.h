// The copy of a batch of rows. Vector versions are chosen at run time and equal the scalar
// reference bit for bit.
#pragma once

#include <cstddef>

#include "mxrec/runtime.h"

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
  void Finish() const;
  bool streams() const { return streams_; }
  bool moves() const { return moves_; }

 private:
  CopyRowsFn copy_;
  bool streams_;
  bool moves_;
};

// Honours the gather mode (runtime.h). dim: the `dim` of the calls to come; output_bytes: of the
// whole batch. Outputs of StreamingThresholdBytes() and more go past the caches.
RowCopier ChooseRowCopier(int dim, size_t output_bytes);
// For tests and benchmarks; 0, the default: half of the last-level cache.
void SetStreamingThresholdBytes(size_t bytes);

}  // namespace mxrec::kernels
