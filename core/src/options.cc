#include "mxrec/options.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <string_view>

namespace mxrec {
namespace {

std::string Text(float value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return {buffer, result.ptr};
}

Status OutOfRange(std::string_view parameter, const std::string& value, std::string_view range) {
  return InvalidArgument(std::string(parameter) + " is " + value + "; it must be " +
                         std::string(range) + ".");
}

struct FloatField {
  const char* name;
  float value;
};

template <class Fields>
Status CheckFinite(const Fields& fields) {
  for (const FloatField& field : fields) {
    if (!std::isfinite(field.value)) {
      return OutOfRange(field.name, Text(field.value), "a finite number");
    }
  }
  return {};
}

Status Check(bool in_range, const char* name, float value, const char* range) {
  return in_range ? Status() : OutOfRange(name, Text(value), range);
}

Status CheckFtrl(const OptimizerOptions& o) {
  MXREC_RETURN_IF_ERROR(Check(o.initial_accumulator_value >= 0, "initial_accumulator_value",
                              o.initial_accumulator_value, "in [0, inf) for Ftrl"));
  MXREC_RETURN_IF_ERROR(Check(o.learning_rate_power <= 0, "learning_rate_power",
                              o.learning_rate_power, "in (-inf, 0]"));
  const FloatField strengths[] = {
      {"l1_regularization", o.l1_regularization},
      {"l2_regularization", o.l2_regularization},
      {"l2_shrinkage_regularization", o.l2_shrinkage_regularization},
  };
  for (const FloatField& f : strengths) {
    MXREC_RETURN_IF_ERROR(Check(f.value >= 0, f.name, f.value, "in [0, inf)"));
  }
  return {};
}

Status CheckLazyAdam(const OptimizerOptions& o) {
  MXREC_RETURN_IF_ERROR(Check(o.beta1 >= 0 && o.beta1 < 1, "beta1", o.beta1, "in [0, 1)"));
  MXREC_RETURN_IF_ERROR(Check(o.beta2 >= 0 && o.beta2 <= 1, "beta2", o.beta2, "in [0, 1]"));
  return Check(o.epsilon > 0, "epsilon", o.epsilon, "in (0, inf)");
}

// Characters of a UTF-8 string, or -1 where it is not one or holds a control character.
int PrintableCharacters(std::string_view text) {
  int count = 0;
  for (size_t i = 0; i < text.size(); ++count) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int ones = std::countl_one(lead);
    if (ones == 1 || ones > 4 || lead < 0x20 || lead == 0x7f) return -1;
    const size_t length = ones == 0 ? 1 : ones;
    if (length > text.size() - i) return -1;
    uint32_t code = lead & (0xffu >> (ones + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return -1;
      code = code << 6 | (next & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0xa0, 0x800, 0x10000};
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    if (code < kSmallest[length == 1 ? 0 : length] || code > 0x10ffff || surrogate) return -1;
    i += length;
  }
  return count;
}

}  // namespace

int SlotCount(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kNone:
    case OptimizerKind::kSgd:
      return 0;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kAdagrad:
      return 1;
    case OptimizerKind::kFtrl:
    case OptimizerKind::kLazyAdam:
      return 2;
  }
  return 0;
}

const char* OptimizerName(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kNone:
      return "None";
    case OptimizerKind::kSgd:
      return "SGD";
    case OptimizerKind::kMomentum:
      return "Momentum";
    case OptimizerKind::kAdagrad:
      return "Adagrad";
    case OptimizerKind::kFtrl:
      return "Ftrl";
    case OptimizerKind::kLazyAdam:
      return "LazyAdam";
  }
  return "Unknown";
}

std::vector<std::string> SlotNames(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kNone:
    case OptimizerKind::kSgd:
      return {};
    case OptimizerKind::kMomentum:
      return {"momentum"};
    case OptimizerKind::kAdagrad:
      return {"accumulator"};
    case OptimizerKind::kFtrl:
      return {"accumulator", "linear"};
    case OptimizerKind::kLazyAdam:
      return {"m", "v"};
  }
  return {};
}

const char* InitializerName(InitializerKind kind) {
  switch (kind) {
    case InitializerKind::kZeros:
      return "Zeros";
    case InitializerKind::kOnes:
      return "Ones";
    case InitializerKind::kConstant:
      return "Constant";
    case InitializerKind::kUniform:
      return "Uniform";
    case InitializerKind::kNormal:
      return "Normal";
    case InitializerKind::kTruncatedNormal:
      return "TruncatedNormal";
    case InitializerKind::kVarianceScaling:
      return "VarianceScaling";
  }
  return "Unknown";
}

const char* ValueTypeName(ValueType type) {
  switch (type) {
    case ValueType::kFloat32:
      return "float32";
    case ValueType::kFloat16:
      return "float16";
    case ValueType::kBfloat16:
      return "bfloat16";
  }
  return "unknown";
}

Status Validate(const OptimizerOptions& o) {
  // Options also come from files: an unknown kind is not a bug of the caller's.
  if (o.kind > OptimizerKind::kLazyAdam) {
    return OutOfRange("optimizer kind", std::to_string(static_cast<int>(o.kind)),
                      "in [0, 5] (None, SGD, Momentum, Adagrad, Ftrl, LazyAdam)");
  }
  // Every field, used or not: options that hold a NaN would not equal themselves.
  const FloatField fields[] = {
      {"learning_rate", o.learning_rate},
      {"weight_decay", o.weight_decay},
      {"momentum", o.momentum},
      {"initial_accumulator_value", o.initial_accumulator_value},
      {"learning_rate_power", o.learning_rate_power},
      {"l1_regularization", o.l1_regularization},
      {"l2_regularization", o.l2_regularization},
      {"l2_shrinkage_regularization", o.l2_shrinkage_regularization},
      {"beta1", o.beta1},
      {"beta2", o.beta2},
      {"epsilon", o.epsilon},
  };
  MXREC_RETURN_IF_ERROR(CheckFinite(fields));
  MXREC_RETURN_IF_ERROR(
      Check(o.learning_rate >= 0, "learning_rate", o.learning_rate, "in [0, inf)"));
  switch (o.kind) {
    case OptimizerKind::kNone:
      return {};
    case OptimizerKind::kSgd:
      return Check(o.weight_decay >= 0 && o.weight_decay <= 1, "weight_decay", o.weight_decay,
                   "in [0, 1]");
    case OptimizerKind::kMomentum:
      return Check(o.momentum >= 0 && o.momentum <= 1, "momentum", o.momentum, "in [0, 1]");
    case OptimizerKind::kAdagrad:
      return Check(o.initial_accumulator_value > 0, "initial_accumulator_value",
                   o.initial_accumulator_value, "in (0, inf) for Adagrad");
    case OptimizerKind::kFtrl:
      return CheckFtrl(o);
    case OptimizerKind::kLazyAdam:
      return CheckLazyAdam(o);
  }
  return {};
}

Status Validate(const InitializerOptions& o) {
  if (o.kind > InitializerKind::kVarianceScaling) {
    return OutOfRange("initializer kind", std::to_string(static_cast<int>(o.kind)),
                      "in [0, 6] (Zeros, Ones, Constant, Uniform, Normal, TruncatedNormal, "
                      "VarianceScaling)");
  }
  if (o.mode > VarianceMode::kFanAvg) {
    return OutOfRange("mode", std::to_string(static_cast<int>(o.mode)),
                      "in [0, 2] (fan_in, fan_out, fan_avg)");
  }
  if (o.distribution > VarianceDistribution::kUniform) {
    return OutOfRange("distribution", std::to_string(static_cast<int>(o.distribution)),
                      "in [0, 2] (truncated_normal, untruncated_normal, uniform)");
  }
  const FloatField fields[] = {
      {"value", o.value},   {"low", o.low},     {"high", o.high}, {"mean", o.mean},
      {"stddev", o.stddev}, {"scale", o.scale}, {"gain", o.gain},
  };
  MXREC_RETURN_IF_ERROR(CheckFinite(fields));
  switch (o.kind) {
    case InitializerKind::kUniform:
      return Check(o.low <= o.high, "low", o.low,
                   ("at most high, which is " + Text(o.high)).c_str());
    case InitializerKind::kNormal:
    case InitializerKind::kTruncatedNormal:
      return Check(o.stddev >= 0, "stddev", o.stddev, "in [0, inf)");
    case InitializerKind::kVarianceScaling:
      MXREC_RETURN_IF_ERROR(Check(o.scale > 0, "scale", o.scale, "in (0, inf)"));
      if (o.fan_in < 0) {
        return OutOfRange("fan_in", std::to_string(o.fan_in),
                          "at least 0 (0: the table's dim stands for it)");
      }
      return {};
    default:
      return {};
  }
}

const char* AdmissionModeName(AdmissionMode mode) {
  return mode == AdmissionMode::kSketch ? "sketch" : "exact";
}

Status Validate(const AdmissionOptions& o) {
  if (o.mode > AdmissionMode::kSketch) {
    return OutOfRange("admission mode", std::to_string(static_cast<int>(o.mode)),
                      "in [0, 1] (exact, sketch)");
  }
  if (o.threshold < kOff || o.threshold > kMaxThreshold) {
    return OutOfRange("admission threshold", std::to_string(o.threshold),
                      "in [-1, 2^31 - 1] (-1: every key is admitted; 0: by restored counts)");
  }
  if (o.mode == AdmissionMode::kSketch && o.threshold > kMaxSketchThreshold) {
    return OutOfRange("admission threshold", std::to_string(o.threshold),
                      "at most 15 with mode sketch, whose counters have 4 bits; use mode exact for "
                      "more");
  }
  if (o.coefficient < 1 || o.coefficient > kMaxThreshold) {
    return OutOfRange("admission coefficient", std::to_string(o.coefficient), "in [1, 2^31 - 1]");
  }
  if (o.expected_keys < 1 || o.expected_keys > kMaxExpectedKeys) {
    return OutOfRange("admission expected_keys", std::to_string(o.expected_keys), "in [1, 2^36]");
  }
  return {};
}

Status Validate(const EvictionOptions& o) {
  if (o.max_age < kOff) {
    return OutOfRange("eviction max_age", std::to_string(o.max_age),
                      "at least 0 seconds, or -1 for no limit");
  }
  if (o.max_rows < 0) {
    return OutOfRange("eviction max_rows", std::to_string(o.max_rows), "at least 0 (0: no limit)");
  }
  return Check(o.min_l2 >= 0 && std::isfinite(o.min_l2), "eviction min_l2", o.min_l2,
               "finite and at least 0 (0: no limit)");
}

Status Validate(const TableOptions& o) {
  const int characters = PrintableCharacters(o.name);
  if (characters < 0) {
    return InvalidArgument(
        "name holds a control character or is not UTF-8; it must be 1 to 100 printable "
        "characters.");
  }
  if (characters < 1 || characters > 100) {
    return OutOfRange("name", "'" + o.name + "' (" + std::to_string(characters) + " characters)",
                      "1 to 100 characters long");
  }
  if (o.dim < 1 || o.dim > kMaxDim) {
    return OutOfRange("dim", std::to_string(o.dim), "in [1, " + std::to_string(kMaxDim) + "]");
  }
  if (o.memory_rows < 0) {
    return OutOfRange("memory_rows", std::to_string(o.memory_rows),
                      "at least 0 (0: the table grows without limit)");
  }
  if (o.ssd_rows < 0 || o.ssd_rows > kMaxSsdRows) {
    return OutOfRange("ssd_rows", std::to_string(o.ssd_rows),
                      "in [0, " + std::to_string(kMaxSsdRows) + "]");
  }
  if (o.ssd_rows > 0 && o.memory_rows == 0) {
    return InvalidArgument("ssd_rows is " + std::to_string(o.ssd_rows) +
                           " and memory_rows is 0, without limit: no row would ever leave memory. "
                           "Set memory_rows to the rows that memory is to hold");
  }
  if (o.ssd_rows == 0 && !o.ssd_paths.empty()) {
    return InvalidArgument("ssd_paths are given ('" + o.ssd_paths[0] +
                           "') and ssd_rows is 0; set ssd_rows to the rows that they are to hold");
  }
  if (o.num_shards != 0 && (o.num_shards < 0 || o.num_shards > kMaxShards ||
                            !std::has_single_bit(static_cast<unsigned>(o.num_shards)))) {
    return OutOfRange(
        "num_shards", std::to_string(o.num_shards),
        "a power of two in [1, " + std::to_string(kMaxShards) + "], or 0 to let the table choose");
  }
  if (o.value_type > ValueType::kBfloat16) {
    return OutOfRange("value_type", std::to_string(static_cast<int>(o.value_type)),
                      "in [0, 2] (float32, float16, bfloat16)");
  }
  if (o.stochastic_rounding && o.value_type == ValueType::kFloat32) {
    return InvalidArgument(
        "stochastic_rounding is on but the values are stored as float32, which are not rounded; "
        "store them as float16 or bfloat16 or leave it off.");
  }
  MXREC_RETURN_IF_ERROR(Validate(o.optimizer));
  MXREC_RETURN_IF_ERROR(Validate(o.admission));
  MXREC_RETURN_IF_ERROR(Validate(o.eviction));
  return Validate(o.initializer);
}

}  // namespace mxrec
