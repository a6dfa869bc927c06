#include "mxrec/options.h"

#include <nanobind/nanobind.h>
#include <nanobind/operators.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "errors.h"
#include "init.h"
#include "option_names.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mxrec::python {
namespace {

template <class Enum>
using Names = std::vector<std::pair<Enum, std::string>>;

const Names<OptimizerKind>& OptimizerNames() {
  static const auto names = [] {
    Names<OptimizerKind> all;
    for (int i = 0; i <= static_cast<int>(OptimizerKind::kLazyAdam); ++i) {
      const auto kind = static_cast<OptimizerKind>(i);
      all.emplace_back(kind, OptimizerName(kind));
    }
    return all;
  }();
  return names;
}

const Names<InitializerKind>& InitializerNames() {
  static const auto names = [] {
    Names<InitializerKind> all;
    for (int i = 0; i <= static_cast<int>(InitializerKind::kVarianceScaling); ++i) {
      const auto kind = static_cast<InitializerKind>(i);
      all.emplace_back(kind, InitializerName(kind));
    }
    return all;
  }();
  return names;
}

const Names<ValueType>& ValueTypeNames() {
  static const auto names = [] {
    Names<ValueType> all;
    for (int i = 0; i <= static_cast<int>(ValueType::kBfloat16); ++i) {
      const auto type = static_cast<ValueType>(i);
      all.emplace_back(type, ValueTypeName(type));
    }
    return all;
  }();
  return names;
}

const Names<VarianceMode>& ModeNames() {
  static const Names<VarianceMode> names = {{VarianceMode::kFanIn, "fan_in"},
                                            {VarianceMode::kFanOut, "fan_out"},
                                            {VarianceMode::kFanAvg, "fan_avg"}};
  return names;
}

const Names<VarianceDistribution>& DistributionNames() {
  static const Names<VarianceDistribution> names = {
      {VarianceDistribution::kTruncatedNormal, "truncated_normal"},
      {VarianceDistribution::kUntruncatedNormal, "untruncated_normal"},
      {VarianceDistribution::kUniform, "uniform"}};
  return names;
}

const Names<AdmissionMode>& AdmissionModeNames() {
  static const Names<AdmissionMode> names = {{AdmissionMode::kExact, "exact"},
                                             {AdmissionMode::kSketch, "sketch"}};
  return names;
}

template <class Enum>
Enum Parse(const Names<Enum>& names, const char* parameter, const std::string& text) {
  std::string allowed;
  for (const auto& [value, name] : names) {
    if (name == text) return value;
    allowed += (allowed.empty() ? "'" : ", '") + name + "'";
  }
  Check(InvalidArgument(std::string(parameter) + " must be one of " + allowed + ", got '" + text +
                        "'"));
  return {};
}

template <class Enum>
std::string Name(const Names<Enum>& names, Enum wanted) {
  for (const auto& [value, name] : names) {
    if (value == wanted) return name;
  }
  return "?";
}

template <class Options>
struct FloatField {
  const char* name;
  float Options::*member;
};

constexpr std::array kOptimizerFloats = {
    FloatField<OptimizerOptions>{"learning_rate", &OptimizerOptions::learning_rate},
    FloatField<OptimizerOptions>{"weight_decay", &OptimizerOptions::weight_decay},
    FloatField<OptimizerOptions>{"momentum", &OptimizerOptions::momentum},
    FloatField<OptimizerOptions>{"initial_accumulator_value",
                                 &OptimizerOptions::initial_accumulator_value},
    FloatField<OptimizerOptions>{"learning_rate_power", &OptimizerOptions::learning_rate_power},
    FloatField<OptimizerOptions>{"l1_regularization", &OptimizerOptions::l1_regularization},
    FloatField<OptimizerOptions>{"l2_regularization", &OptimizerOptions::l2_regularization},
    FloatField<OptimizerOptions>{"l2_shrinkage_regularization",
                                 &OptimizerOptions::l2_shrinkage_regularization},
    FloatField<OptimizerOptions>{"beta1", &OptimizerOptions::beta1},
    FloatField<OptimizerOptions>{"beta2", &OptimizerOptions::beta2},
    FloatField<OptimizerOptions>{"epsilon", &OptimizerOptions::epsilon},
};

constexpr std::array kInitializerFloats = {
    FloatField<InitializerOptions>{"value", &InitializerOptions::value},
    FloatField<InitializerOptions>{"low", &InitializerOptions::low},
    FloatField<InitializerOptions>{"high", &InitializerOptions::high},
    FloatField<InitializerOptions>{"mean", &InitializerOptions::mean},
    FloatField<InitializerOptions>{"stddev", &InitializerOptions::stddev},
    FloatField<InitializerOptions>{"scale", &InitializerOptions::scale},
    FloatField<InitializerOptions>{"gain", &InitializerOptions::gain},
};

// The shortest decimal that is this float, as people write it: 0.1 and not 0.10000000149.
double Decimal(float value) {
  char text[32];
  for (int digits = 6; digits <= 9; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
    if (std::strtof(text, nullptr) == value) break;
  }
  return std::strtod(text, nullptr);
}

// The fields that differ from their defaults: the others say nothing.
template <class Options, size_t N>
std::string FloatsText(const Options& options, const std::array<FloatField<Options>, N>& fields) {
  const Options defaults;
  std::string text;
  for (const auto& field : fields) {
    if (options.*field.member == defaults.*field.member) continue;
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", Decimal(options.*field.member));
    text += std::string(", ") + field.name + "=" + number;
  }
  return text;
}

OptimizerOptions MakeOptimizer(const std::string& kind, float learning_rate, float weight_decay,
                               float momentum, bool nesterov, float initial_accumulator_value,
                               float learning_rate_power, float l1_regularization,
                               float l2_regularization, float l2_shrinkage_regularization,
                               float beta1, float beta2, float epsilon) {
  OptimizerOptions options{Parse(OptimizerNames(), "kind", kind),
                           learning_rate,
                           weight_decay,
                           momentum,
                           nesterov,
                           initial_accumulator_value,
                           learning_rate_power,
                           l1_regularization,
                           l2_regularization,
                           l2_shrinkage_regularization,
                           beta1,
                           beta2,
                           epsilon};
  Check(Validate(options));
  return options;
}

InitializerOptions MakeInitializer(const std::string& kind, float value, float low, float high,
                                   float mean, float stddev, float scale, const std::string& mode,
                                   const std::string& distribution, int64_t fan_in, float gain) {
  InitializerOptions options{Parse(InitializerNames(), "kind", kind),
                             value,
                             low,
                             high,
                             mean,
                             stddev,
                             scale,
                             Parse(ModeNames(), "mode", mode),
                             Parse(DistributionNames(), "distribution", distribution),
                             fan_in,
                             gain};
  Check(Validate(options));
  return options;
}

void InitOptimizerOptions(nb::module_& m) {
  nb::class_<OptimizerOptions> type(
      m, "OptimizerOptions",
      "Hyperparameters of one optimizer; fields of other kinds are ignored.");
  const OptimizerOptions d;
  type.def(
          "__init__",
          [](OptimizerOptions* self, const std::string& kind, float learning_rate,
             float weight_decay, float momentum, bool nesterov, float initial_accumulator_value,
             float learning_rate_power, float l1_regularization, float l2_regularization,
             float l2_shrinkage_regularization, float beta1, float beta2, float epsilon) {
            new (self) OptimizerOptions(MakeOptimizer(
                kind, learning_rate, weight_decay, momentum, nesterov, initial_accumulator_value,
                learning_rate_power, l1_regularization, l2_regularization,
                l2_shrinkage_regularization, beta1, beta2, epsilon));
          },
          "kind"_a, nb::kw_only(), "learning_rate"_a = Decimal(d.learning_rate),
          "weight_decay"_a = Decimal(d.weight_decay), "momentum"_a = Decimal(d.momentum),
          "nesterov"_a = d.nesterov,
          "initial_accumulator_value"_a = Decimal(d.initial_accumulator_value),
          "learning_rate_power"_a = Decimal(d.learning_rate_power),
          "l1_regularization"_a = Decimal(d.l1_regularization),
          "l2_regularization"_a = Decimal(d.l2_regularization),
          "l2_shrinkage_regularization"_a = Decimal(d.l2_shrinkage_regularization),
          "beta1"_a = Decimal(d.beta1), "beta2"_a = Decimal(d.beta2),
          "epsilon"_a = Decimal(d.epsilon), "Raises ValueError for a value outside its range.")
      .def_prop_ro("kind", [](const OptimizerOptions& o) { return OptimizerName(o.kind); })
      .def_ro("nesterov", &OptimizerOptions::nesterov)
      .def_prop_ro(
          "slot_names", [](const OptimizerOptions& o) { return SlotNames(o.kind); },
          "Names of the slots that a row carries behind its embedding, in order.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const OptimizerOptions& o) {
        return std::string("OptimizerOptions('") + OptimizerName(o.kind) + "'" +
               FloatsText(o, kOptimizerFloats) + (o.nesterov ? ", nesterov=True)" : ")");
      });
  for (const auto& field : kOptimizerFloats) type.def_ro(field.name, field.member);
}

void InitInitializerOptions(nb::module_& m) {
  nb::class_<InitializerOptions> type(
      m, "InitializerOptions",
      "How the rows of new keys are drawn; fields of other kinds are ignored.");
  const InitializerOptions d;
  type.def(
          "__init__",
          [](InitializerOptions* self, const std::string& kind, float value, float low, float high,
             float mean, float stddev, float scale, const std::string& mode,
             const std::string& distribution, int64_t fan_in, float gain) {
            new (self) InitializerOptions(MakeInitializer(kind, value, low, high, mean, stddev,
                                                          scale, mode, distribution, fan_in, gain));
          },
          "kind"_a, nb::kw_only(), "value"_a = Decimal(d.value), "low"_a = Decimal(d.low),
          "high"_a = Decimal(d.high), "mean"_a = Decimal(d.mean), "stddev"_a = Decimal(d.stddev),
          "scale"_a = Decimal(d.scale), "mode"_a = Name(ModeNames(), d.mode),
          "distribution"_a = Name(DistributionNames(), d.distribution), "fan_in"_a = d.fan_in,
          "gain"_a = Decimal(d.gain), "Raises ValueError for a value outside its range.")
      .def_prop_ro("kind", [](const InitializerOptions& o) { return InitializerName(o.kind); })
      .def_prop_ro("mode", [](const InitializerOptions& o) { return Name(ModeNames(), o.mode); })
      .def_prop_ro(
          "distribution",
          [](const InitializerOptions& o) { return Name(DistributionNames(), o.distribution); })
      .def_ro("fan_in", &InitializerOptions::fan_in)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const InitializerOptions& o) {
        std::string text = std::string("InitializerOptions('") + InitializerName(o.kind) + "'" +
                           FloatsText(o, kInitializerFloats);
        if (o.kind == InitializerKind::kVarianceScaling) {
          text += ", mode='" + Name(ModeNames(), o.mode) + "', distribution='" +
                  Name(DistributionNames(), o.distribution) +
                  "', fan_in=" + std::to_string(o.fan_in);
        }
        return text + ")";
      });
  for (const auto& field : kInitializerFloats) type.def_ro(field.name, field.member);
}

void InitAdmissionOptions(nb::module_& m) {
  const AdmissionOptions a;
  nb::class_<AdmissionOptions>(m, "AdmissionOptions", "Which keys get a row in training.")
      .def(
          "__init__",
          [](AdmissionOptions* self, int64_t threshold, int64_t coefficient,
             const std::string& mode, int64_t expected_keys) {
            const AdmissionOptions options{
                threshold, coefficient, Parse(AdmissionModeNames(), "mode", mode), expected_keys};
            Check(Validate(options));
            new (self) AdmissionOptions(options);
          },
          "threshold"_a, nb::kw_only(), "coefficient"_a = a.coefficient,
          "mode"_a = AdmissionModeName(a.mode), "expected_keys"_a = a.expected_keys,
          "Raises ValueError for a value outside its range.")
      .def_ro("threshold", &AdmissionOptions::threshold, "-1: every key is admitted.")
      .def_ro("coefficient", &AdmissionOptions::coefficient)
      .def_prop_ro("mode", [](const AdmissionOptions& o) { return AdmissionModeName(o.mode); })
      .def_ro("expected_keys", &AdmissionOptions::expected_keys)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const AdmissionOptions& o) {
        return "AdmissionOptions(" + std::to_string(o.threshold) +
               ", coefficient=" + std::to_string(o.coefficient) + ", mode='" +
               AdmissionModeName(o.mode) + "', expected_keys=" + std::to_string(o.expected_keys) +
               ")";
      });
}

void InitEvictionOptions(nb::module_& m) {
  const EvictionOptions e;
  nb::class_<EvictionOptions>(m, "EvictionOptions", "Which rows evict() removes.")
      .def(
          "__init__",
          [](EvictionOptions* self, int64_t max_age, int64_t max_rows, float min_l2) {
            const EvictionOptions options{max_age, max_rows, min_l2};
            Check(Validate(options));
            new (self) EvictionOptions(options);
          },
          nb::kw_only(), "max_age"_a = e.max_age, "max_rows"_a = e.max_rows,
          "min_l2"_a = Decimal(e.min_l2), "Raises ValueError for a value outside its range.")
      .def_ro("max_age", &EvictionOptions::max_age, "Seconds; -1: no limit.")
      .def_ro("max_rows", &EvictionOptions::max_rows, "0: no limit.")
      .def_ro("min_l2", &EvictionOptions::min_l2)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, arg: object, /) -> bool"))
      .def("__repr__", [](const EvictionOptions& o) {
        return "EvictionOptions(max_age=" + std::to_string(o.max_age) +
               ", max_rows=" + std::to_string(o.max_rows) + ", min_l2=" + std::to_string(o.min_l2) +
               ")";
      });
}

}  // namespace

ValueType ParseValueType(const std::string& value_dtype) {
  return Parse(ValueTypeNames(), "value_dtype", value_dtype);
}

void InitOptions(nb::module_& m) {
  InitOptimizerOptions(m);
  InitInitializerOptions(m);
  InitAdmissionOptions(m);
  InitEvictionOptions(m);
  m.attr("MAX_DIM") = kMaxDim;
  m.attr("MAX_SHARDS") = kMaxShards;
  m.attr("MAX_SSD_ROWS") = kMaxSsdRows;
}

}  // namespace mxrec::python
