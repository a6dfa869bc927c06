// Options whose values Python spells as strings.
#pragma once

#include <string>

#include "mxrec/options.h"

namespace mxrec::python {

// "float32", "float16" or "bfloat16"; others raise ValueError.
ValueType ParseValueType(const std::string& value_dtype);

}  // namespace mxrec::python
