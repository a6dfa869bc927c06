// A checkpoint's description as a Python dict.
#pragma once

#include <nanobind/nanobind.h>

#include "mxrec/checkpoint.h"

namespace mxrec::python {

nanobind::dict ToDict(const CheckpointInfo& info);

}  // namespace mxrec::python
