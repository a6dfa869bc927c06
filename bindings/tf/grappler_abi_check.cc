// Compiles only if grappler_abi.h agrees with TensorFlow's own headers. Contributes no code.
#include <cstddef>
#include <type_traits>

#include "tensorflow/c/experimental/grappler/grappler.h"
#include "tensorflow/c/tf_buffer.h"
#include "tensorflow/c/tf_status.h"

// Ours, beside theirs and under other names.
#define MXREC_TF_TYPES_ARE_DECLARED
#define TP_Optimizer OurOptimizer
#define TP_OptimizerRegistrationParams OurRegistrationParams
#define TF_InitGraph OurInitGraph
#include "grappler_abi.h"
#undef TP_Optimizer
#undef TP_OptimizerRegistrationParams
#undef TF_InitGraph

#define MXREC_SAME_FIELD(ours, theirs, field)                       \
  static_assert(offsetof(ours, field) == offsetof(theirs, field) && \
                sizeof(ours::field) == sizeof(theirs::field))

MXREC_SAME_FIELD(OurOptimizer, TP_Optimizer, create_func);
MXREC_SAME_FIELD(OurOptimizer, TP_Optimizer, optimize_func);
MXREC_SAME_FIELD(OurOptimizer, TP_Optimizer, destroy_func);
MXREC_SAME_FIELD(OurRegistrationParams, TP_OptimizerRegistrationParams, major_version);
MXREC_SAME_FIELD(OurRegistrationParams, TP_OptimizerRegistrationParams, device_type);
MXREC_SAME_FIELD(OurRegistrationParams, TP_OptimizerRegistrationParams, optimizer_configs);
MXREC_SAME_FIELD(OurRegistrationParams, TP_OptimizerRegistrationParams, optimizer);
static_assert(sizeof(OurOptimizer) == sizeof(TP_Optimizer));
static_assert(sizeof(OurRegistrationParams) == sizeof(TP_OptimizerRegistrationParams));
static_assert(
    std::is_same_v<decltype(OurOptimizer::optimize_func), decltype(TP_Optimizer::optimize_func)>);
static_assert(std::is_same_v<TF_NamesSize, decltype(&TF_GetFetchNodesListSize)>);
static_assert(std::is_same_v<TF_NamesSize, decltype(&TF_GetNodesToPreserveListSize)>);
static_assert(std::is_same_v<TF_Names, decltype(&TF_GetFetchNodesList)>);
static_assert(std::is_same_v<TF_Names, decltype(&TF_GetNodesToPreserveList)>);
