// Declarations of TensorFlow's C API for graph optimizers that come with a plugin
// (tensorflow/c/experimental/grappler/grappler.h, the same from TensorFlow 2.15 to 2.21).
// grappler_abi_check.cc compares them with TensorFlow's headers.
#pragma once

#ifndef MXREC_TF_TYPES_ARE_DECLARED  // grappler_abi_check.cc has them from TensorFlow
#include "tf_c_abi.h"
#endif

extern "C" {

typedef struct TF_GrapplerItem TF_GrapplerItem;
typedef struct TP_OptimizerConfigs
    TP_OptimizerConfigs;  // TensorFlow's own passes: left as they are

typedef struct TP_Optimizer {
  size_t struct_size;
  void* ext;
  void* (*create_func)();
  void (*optimize_func)(void*, const TF_Buffer*, const TF_GrapplerItem*, TF_Buffer*, TF_Status*);
  void (*destroy_func)(void*);
} TP_Optimizer;

typedef struct TP_OptimizerRegistrationParams {
  size_t struct_size;
  void* ext;
  int32_t major_version;
  int32_t minor_version;
  int32_t patch_version;
  const char* device_type;
  TP_OptimizerConfigs* optimizer_configs;
  TP_Optimizer* optimizer;
} TP_OptimizerRegistrationParams;

// What reads a list of names from a TF_GrapplerItem: first the sizes, then the names. TensorFlow
// exports these functions from libtensorflow_cc.so.2.
typedef void (*TF_NamesSize)(const TF_GrapplerItem*, int* count, size_t* bytes, TF_Status*);
typedef void (*TF_Names)(const TF_GrapplerItem*, char** values, size_t* lengths, int count,
                         void* storage, size_t bytes, TF_Status*);

// TensorFlow calls it when it loads the library as a plugin.
__attribute__((visibility("default"))) void TF_InitGraph(TP_OptimizerRegistrationParams* params,
                                                         TF_Status* status);

// For the Python module, which asks before it has TensorFlow call the above: 0: it may; 1:
// TensorFlow has the optimizer already; 2: this TensorFlow does not export what the optimizer
// needs.
__attribute__((visibility("default"))) int MxrecGraphOptimizerState(void);

}  // extern "C"
