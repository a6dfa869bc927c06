// What a table is made of: its shape, its initial values, its optimizer. Plain data; equal options
// mean the same table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxrec/status.h"

namespace mxrec {

class Env;

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

// --- Admission and eviction ---------------------------------------------------------------------

inline constexpr int64_t kOff = -1;

enum class AdmissionMode : uint8_t {
  kExact = 0,  // a count for every key, some 29 bytes each
  kSketch,     // 4-bit counters that keys share, 3.6 bytes for each expected key
};
MXREC_API const char* AdmissionModeName(AdmissionMode mode);  // "exact", "sketch"

inline constexpr int64_t kMaxThreshold = (int64_t{1} << 31) - 1;
inline constexpr int64_t kMaxSketchThreshold = 15;  // counters have 4 bits
inline constexpr int64_t kMaxExpectedKeys = int64_t{1} << 36;

// Which keys get a row in training: those whose count, the batch at hand included, reaches
// `threshold`. Each occurrence counts `coefficient`.
struct AdmissionOptions {
  // kOff: every key. > 0: as above. 0: by the counts and the threshold that a restore brings;
  // counts do not grow. Without a restore no key is admitted.
  int64_t threshold = kOff;
  int64_t coefficient = 1;  // [1, 2^31)
  AdmissionMode mode = AdmissionMode::kExact;
  int64_t expected_keys = int64_t{1} << 22;  // distinct ones that a sketch is sized for

  bool on() const { return threshold != kOff; }
  bool operator==(const AdmissionOptions&) const = default;
};
MXREC_API Status Validate(const AdmissionOptions& options);

// Which rows Table::Evict removes.
struct EvictionOptions {
  int64_t max_age = kOff;  // seconds since the last training use; kOff: however old
  int64_t max_rows = 0;    // the least frequent ones beyond so many; 0: however many
  float min_l2 = 0.0f;     // embeddings whose L2 norm is below; 0: none

  bool on() const { return max_age != kOff || max_rows > 0 || min_l2 > 0.0f; }
  bool operator==(const EvictionOptions&) const = default;
};
MXREC_API Status Validate(const EvictionOptions& options);

// --- Table --------------------------------------------------------------------------------------

inline constexpr int kMaxDim = 8192;
inline constexpr int kMaxShards = 256;
inline constexpr int64_t kMaxSsdRows = 1'300'000'000;

// How embeddings are stored. Arithmetic, optimizer slots and whatever enters or leaves a table are
// float32; docs/half-precision.md says how values are rounded.
enum class ValueType : uint8_t { kFloat32 = 0, kFloat16, kBfloat16 };

MXREC_API const char* ValueTypeName(ValueType type);  // "float32", "float16", "bfloat16"

struct TableOptions {
  std::string name;  // a label; 1-100 characters
  int dim = 0;       // [1, kMaxDim] floats per embedding
  // Rows in memory; 0: as many as come. The capacity is their sum with ssd_rows.
  int64_t memory_rows = 0;
  uint64_t seed = 0;   // of the initial values and of stochastic rounding
  int num_shards = 0;  // power of two in [1, kMaxShards]; 0: chosen from the machine
  OptimizerOptions optimizer;
  InitializerOptions initializer;
  std::vector<int64_t> padding_keys;  // read like any key, never updated
  ValueType value_type = ValueType::kFloat32;
  // Updates round up or down at random, with the probabilities that keep the mean; a pure function
  // of (seed, key, column, optimizer step). Needs a 16-bit value_type; costs 4 bytes a row.
  bool stochastic_rounding = false;
  // Copies of the most frequent rows where reads find them sooner. Changes speed, never values.
  bool use_hot = true;
  AdmissionOptions admission;
  EvictionOptions eviction;
  // Rows beyond memory_rows, which is positive then, [0, kMaxSsdRows]: cold rows lie in files below
  // the ssd_paths, filled in this order. The files are the running table's alone.
  int64_t ssd_rows = 0;
  std::vector<std::string> ssd_paths;  // directories; none: the working directory
  Env* env = nullptr;                  // of the SSD tier's files; null: Env::Default()

  bool operator==(const TableOptions&) const = default;
};

MXREC_API Status Validate(const TableOptions& options);

}  // namespace mxrec
