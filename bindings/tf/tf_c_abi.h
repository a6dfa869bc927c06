// Declarations of the part of TensorFlow's C API that the op library uses, so that building it
// needs no TensorFlow and one binary runs on every version. The names come from
// tf_c_functions.inc; tf_c_abi_check.cc proves them against TensorFlow's headers.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {

#define MXREC_TF_FUNCTION(result, name, parameters)

typedef enum TF_Code {
#define MXREC_TF_CODE(name, value) name = value,
#define MXREC_TF_TYPE(name, value)
#include "tf_c_functions.inc"
#undef MXREC_TF_CODE
#undef MXREC_TF_TYPE
} TF_Code;

typedef enum TF_DataType {
#define MXREC_TF_CODE(name, value)
#define MXREC_TF_TYPE(name, value) name = value,
#include "tf_c_functions.inc"
#undef MXREC_TF_CODE
#undef MXREC_TF_TYPE
} TF_DataType;

#undef MXREC_TF_FUNCTION

typedef struct TF_Buffer {
  const void* data;
  size_t length;
  void (*data_deallocator)(void* data, size_t length);
} TF_Buffer;

typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeHandle TF_ShapeHandle;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;

#define MXREC_TF_CODE(name, value)
#define MXREC_TF_TYPE(name, value)
#define MXREC_TF_FUNCTION(result, name, parameters) result name parameters;
#include "tf_c_functions.inc"
#undef MXREC_TF_CODE
#undef MXREC_TF_TYPE
#undef MXREC_TF_FUNCTION

}  // extern "C"
