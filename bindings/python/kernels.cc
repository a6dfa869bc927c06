#include <nanobind/nanobind.h>

#include "init.h"
#include "mxrec/runtime.h"

namespace nb = nanobind;

namespace mxrec::python {

void InitKernels(nb::module_& m) {
  m.def("kernel_target", &kernels::Target, "The instruction set in use: 'AVX2', 'NEON', ...");
  m.def("streaming_threshold_bytes", &kernels::StreamingThresholdBytes,
        "Bytes of a lookup's output from which on it is written past the caches.");
}

}  // namespace mxrec::python
