// What a table is made of: its shape, its initial values, its optimizer. Plain data; equal options
// mean the same table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxrec/status.h"

namespace mxrec {

// --- Optimizers ---------------------------------------------------------------------------------

enum class OptimizerKind : uint8_t { kNone = 0, kSgd, kMomentum, kAdagrad, kFtrl, kLazyAdam };

// Hyperparameters of one optimizer. Fields that its kind does not use keep their defaults, so that
// equality compares what matters.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kNone;
  float learning_rate = 0.01f;               // all kinds; [0, inf)
  float weight_decay = 0.0f;                 // SGD; [0, 1]
  float momentum = 0.0f;                     // Momentum; [0, 1]
  bool nesterov = false;                     // Momentum
  float initial_accumulator_value = 0.1f;    // Adagrad, FTRL; >= 0 (Adagrad: > 0)
  float learning_rate_power = -0.5f;         // FTRL; <= 0
  float l1_regularization = 0.0f;            // FTRL; >= 0
  float l2_regularization = 0.0f;            // FTRL; >= 0
  float l2_shrinkage_regularization = 0.0f;  // FTRL; >= 0
  float beta1 = 0.9f;                        // LazyAdam; [0, 1)
  float beta2 = 0.999f;                      // LazyAdam; [0, 1]
  float epsilon = 1e-8f;                     // LazyAdam; > 0

  bool operator==(const OptimizerOptions&) const = default;
};

// Number of float slots of width `dim` that a row carries behind its embedding:
// none, SGD: 0; Momentum, Adagrad: 1; FTRL (accumulator, linear), LazyAdam (m, v): 2.
MXREC_API int SlotCount(OptimizerKind kind);
MXREC_API const char* OptimizerName(OptimizerKind kind);           // "SGD", "LazyAdam", ...
MXREC_API std::vector<std::string> SlotNames(OptimizerKind kind);  // "m", "v"; as many as slots
MXREC_API Status Validate(const OptimizerOptions& options);

// --- Initial values -----------------------------------------------------------------------------

enum class InitializerKind : uint8_t {
  kZeros = 0,
  kOnes,
  kConstant,
  kUniform,
  kNormal,
  kTruncatedNormal,
  kVarianceScaling,
};
enum class VarianceMode : uint8_t { kFanIn = 0, kFanOut, kFanAvg };
enum class VarianceDistribution : uint8_t { kTruncatedNormal = 0, kUntruncatedNormal, kUniform };

// The value of column c of key k is a pure function of (table seed, k, c) and of these options:
// never of insertion order, threads or shards.
struct InitializerOptions {
  InitializerKind kind = InitializerKind::kZeros;
  float value = 0.0f;   // Constant
  float low = -0.05f;   // Uniform, [low, high)
  float high = 0.05f;   // Uniform
  float mean = 0.0f;    // Normal, TruncatedNormal
  float stddev = 1.0f;  // Normal, TruncatedNormal (cut at 2 stddev); >= 0
  float scale = 1.0f;   // VarianceScaling; > 0
  VarianceMode mode = VarianceMode::kFanIn;
  VarianceDistribution distribution = VarianceDistribution::kTruncatedNormal;
  // VarianceScaling of a [fan_in, dim] matrix; 0: `dim`, because a growing table has no row count.
  int64_t fan_in = 0;
  float gain = 1.0f;  // every kind: the drawn value is multiplied by it

  bool operator==(const InitializerOptions&) const = default;
};

MXREC_API const char* InitializerName(InitializerKind kind);  // "Zeros", "VarianceScaling", ...
MXREC_API Status Validate(const InitializerOptions& options);

// --- Table --------------------------------------------------------------------------------------

inline constexpr int kMaxDim = 8192;
inline constexpr int kMaxShards = 256;

// How embeddings are stored. Arithmetic, optimizer slots and whatever enters or leaves a table are
// float32; docs/half-precision.md says how values are rounded.
enum class ValueType : uint8_t { kFloat32 = 0, kFloat16, kBfloat16 };

MXREC_API const char* ValueTypeName(ValueType type);  // "float32", "float16", "bfloat16"

struct TableOptions {
  std::string name;         // a label; 1-100 characters
  int dim = 0;              // [1, kMaxDim] floats per embedding
  int64_t memory_rows = 0;  // capacity in rows; 0: grows without limit
  uint64_t seed = 0;        // of the initial values and of stochastic rounding
  int num_shards = 0;       // power of two in [1, kMaxShards]; 0: chosen from the machine
  OptimizerOptions optimizer;
  InitializerOptions initializer;
  std::vector<int64_t> padding_keys;  // read like any key, never updated
  ValueType value_type = ValueType::kFloat32;
  // Updates round up or down at random, with the probabilities that keep the mean; a pure function
  // of (seed, key, column, optimizer step). Needs a 16-bit value_type; costs 4 bytes a row.
  bool stochastic_rounding = false;
  // Copies of the most frequent rows where reads find them sooner. Changes speed, never values.
  bool use_hot = true;

  bool operator==(const TableOptions&) const = default;
};

MXREC_API Status Validate(const TableOptions& options);

}  // namespace mxrec
