// Compiles only if tf_c_functions.inc agrees with TensorFlow's own headers: a C function that is
// declared twice with different types is an error. Contributes no code.
#include <cstddef>
#include <cstdint>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_buffer.h"
#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

extern "C" {
#define MXREC_TF_CODE(name, value) static_assert(static_cast<int>(name) == value);
#define MXREC_TF_TYPE(name, value) static_assert(static_cast<int>(name) == value);
#define MXREC_TF_FUNCTION(result, name, parameters) result name parameters;
#include "tf_c_functions.inc"
}

// The enumerations and TF_Buffer of tf_c_abi.h cross the boundary by value.
static_assert(sizeof(TF_Code) == sizeof(int) && sizeof(TF_DataType) == sizeof(int));
static_assert(sizeof(TF_Buffer) == 3 * sizeof(void*));
static_assert(offsetof(TF_Buffer, data) == 0);
static_assert(offsetof(TF_Buffer, length) == sizeof(void*));
static_assert(offsetof(TF_Buffer, data_deallocator) == 2 * sizeof(void*));
