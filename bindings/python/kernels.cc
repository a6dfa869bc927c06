#include "mxrec/kernels.h"

#include <nanobind/nanobind.h>

#include "init.h"

namespace nb = nanobind;

namespace mxrec::python {

void InitKernels(nb::module_& m) {
  m.def("kernel_target", &kernels::Target, "The instruction set in use: 'AVX2', 'NEON', ...");
}

}  // namespace mxrec::python
