#include "checkpoint/options_json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace mxrec::checkpoint {
namespace {

struct OptimizerField {
  const char* name;
  float OptimizerOptions::*member;
};
constexpr OptimizerField kOptimizerFields[] = {
    {"learning_rate", &OptimizerOptions::learning_rate},
    {"weight_decay", &OptimizerOptions::weight_decay},
    {"momentum", &OptimizerOptions::momentum},
    {"initial_accumulator_value", &OptimizerOptions::initial_accumulator_value},
    {"learning_rate_power", &OptimizerOptions::learning_rate_power},
    {"l1_regularization", &OptimizerOptions::l1_regularization},
    {"l2_regularization", &OptimizerOptions::l2_regularization},
    {"l2_shrinkage_regularization", &OptimizerOptions::l2_shrinkage_regularization},
    {"beta1", &OptimizerOptions::beta1},
    {"beta2", &OptimizerOptions::beta2},
    {"epsilon", &OptimizerOptions::epsilon},
};

struct InitializerField {
  const char* name;
  float InitializerOptions::*member;
};
constexpr InitializerField kInitializerFields[] = {
    {"value", &InitializerOptions::value},   {"low", &InitializerOptions::low},
    {"high", &InitializerOptions::high},     {"mean", &InitializerOptions::mean},
    {"stddev", &InitializerOptions::stddev}, {"scale", &InitializerOptions::scale},
    {"gain", &InitializerOptions::gain},
};

constexpr const char* kModes[] = {"fan_in", "fan_out", "fan_avg"};
constexpr const char* kDistributions[] = {"truncated_normal", "untruncated_normal", "uniform"};

// The index in [0, n) whose name is the field's value.
template <class NameOf>
int NamedValue(const FieldReader& from, const char* field, int n, NameOf name_of) {
  const std::string value = from.String(field);
  std::string allowed;
  for (int i = 0; i < n; ++i) {
    if (value == name_of(i)) return i;
    allowed += std::string(i == 0 ? "" : ", ") + name_of(i);
  }
  from.Fail(field, "is '" + value + "', not one of " + allowed);
  return 0;
}

const char* OptimizerNameAt(int i) { return OptimizerName(static_cast<OptimizerKind>(i)); }
const char* ValueTypeAt(int i) { return ValueTypeName(static_cast<ValueType>(i)); }
const char* InitializerNameAt(int i) { return InitializerName(static_cast<InitializerKind>(i)); }

}  // namespace

// --- FieldReader --------------------------------------------------------------------------------

void FieldReader::Fail(const std::string& name, const std::string& what) const {
  if (status_->ok()) {
    *status_ = DataLoss(path_ + ": damaged at byte 0: field '" + prefix_ + name + "' " + what);
  }
}

const Json* FieldReader::Find(const char* name) const {
  if (object_ == nullptr || !object_->is_object()) {
    Fail(name, "is not in a JSON object");
    return nullptr;
  }
  const auto found = object_->find(name);
  if (found != object_->end()) return &*found;
  Fail(name, "is missing");
  return nullptr;
}

bool FieldReader::Has(const char* name) const {
  return object_ != nullptr && object_->is_object() && object_->contains(name);
}

int64_t FieldReader::Int(const char* name, int64_t min, int64_t max) const {
  const Json* value = Find(name);
  if (value == nullptr) return min;
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() &&
                      value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (fits) {
    const int64_t number = value->get<int64_t>();
    if (number >= min && number <= max) return number;
  }
  Fail(name, "is not an integer in [" + std::to_string(min) + ", " + std::to_string(max) + "]");
  return min;
}

uint64_t FieldReader::Uint64(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  Fail(name, "is not an integer in [0, 2^64)");
  return 0;
}

float FieldReader::Float(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr) return 0.0f;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::abs(number) <= double{std::numeric_limits<float>::max()}) {
      return static_cast<float>(number);
    }
  }
  Fail(name, "is not a number of float32");
  return 0.0f;
}

bool FieldReader::Bool(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, "is not true or false");
  return false;
}

std::string FieldReader::String(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr) return "";
  if (value->is_string()) return value->get<std::string>();
  Fail(name, "is not a string");
  return "";
}

std::vector<std::string> FieldReader::Strings(const char* name) const {
  const Json* value = Find(name);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  bool right = value->is_array();
  for (size_t i = 0; right && i < value->size(); ++i) {
    right = (*value)[i].is_string();
    if (right) strings.push_back((*value)[i].get<std::string>());
  }
  if (!right) Fail(name, "is not an array of strings");
  return strings;
}

std::vector<int64_t> FieldReader::Ints(const char* name) const {
  const Json* value = Find(name);
  std::vector<int64_t> ints;
  if (value == nullptr) return ints;
  bool right = value->is_array();
  for (size_t i = 0; right && i < value->size(); ++i) {
    const Json& item = (*value)[i];
    right = item.is_number_integer() &&
            !(item.is_number_unsigned() &&
              item.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
    if (right) ints.push_back(item.get<int64_t>());
  }
  if (!right) Fail(name, "is not an array of 64-bit integers");
  return ints;
}

FieldReader FieldReader::Object(const char* name) const {
  return FieldReader(Find(name), path_, prefix_ + name + ".", status_);
}

std::vector<FieldReader> FieldReader::Array(const char* name, size_t max_items) const {
  const Json* value = Find(name);
  std::vector<FieldReader> items;
  if (value == nullptr) return items;
  if (!value->is_array() || value->size() > max_items) {
    Fail(name, "is not an array of at most " + std::to_string(max_items) + " items");
    return items;
  }
  for (size_t i = 0; i < value->size(); ++i) {
    items.emplace_back(&(*value)[i], path_, prefix_ + name + "[" + std::to_string(i) + "].",
                       status_);
  }
  return items;
}

// --- TableOptions -------------------------------------------------------------------------------

Json FloatJson(float value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text) - 1, value).ptr;
  *end = '\0';
  double number = 0.0;
  std::from_chars(text, end, number);
  // Rounding twice could in principle miss; the float itself as a double never does.
  if (static_cast<float>(number) != value) number = value;
  return number;
}

void PutTableOptions(const TableOptions& options, Json* root) {
  Json& table = (*root)["table"];
  table["name"] = options.name;
  table["dim"] = options.dim;
  // The capacity: in which tiers rows lie is not the checkpoint's affair.
  table["memory_rows"] = options.memory_rows + options.ssd_rows;
  table["seed"] = options.seed;
  table["num_shards"] = options.num_shards;
  table["padding_keys"] = options.padding_keys;
  if (options.value_type != ValueType::kFloat32) {
    table["value_dtype"] = ValueTypeName(options.value_type);
    table["stochastic_rounding"] = options.stochastic_rounding;
  }

  Json& optimizer = (*root)["optimizer"];
  optimizer["kind"] = OptimizerName(options.optimizer.kind);
  for (const OptimizerField& field : kOptimizerFields) {
    optimizer[field.name] = FloatJson(options.optimizer.*field.member);
  }
  optimizer["nesterov"] = options.optimizer.nesterov;

  Json& initializer = (*root)["initializer"];
  initializer["kind"] = InitializerName(options.initializer.kind);
  for (const InitializerField& field : kInitializerFields) {
    initializer[field.name] = FloatJson(options.initializer.*field.member);
  }
  initializer["mode"] = kModes[static_cast<int>(options.initializer.mode)];
  initializer["distribution"] = kDistributions[static_cast<int>(options.initializer.distribution)];
  initializer["fan_in"] = options.initializer.fan_in;
}

void GetTableOptions(const FieldReader& root, TableOptions* options) {
  const FieldReader table = root.Object("table");
  options->name = table.String("name");
  options->dim = static_cast<int>(table.Int("dim", 1, kMaxDim));
  options->memory_rows = table.Int("memory_rows", 0);
  options->seed = table.Uint64("seed");
  options->num_shards = static_cast<int>(table.Int("num_shards", 1, kMaxShards));
  options->padding_keys = table.Ints("padding_keys");
  if (table.Has("value_dtype")) {
    options->value_type = static_cast<ValueType>(
        NamedValue(table, "value_dtype", static_cast<int>(ValueType::kBfloat16) + 1, ValueTypeAt));
    options->stochastic_rounding = table.Bool("stochastic_rounding");
  }

  const FieldReader optimizer = root.Object("optimizer");
  OptimizerOptions& opt = options->optimizer;
  opt.kind = static_cast<OptimizerKind>(NamedValue(
      optimizer, "kind", static_cast<int>(OptimizerKind::kLazyAdam) + 1, OptimizerNameAt));
  for (const OptimizerField& field : kOptimizerFields) {
    opt.*field.member = optimizer.Float(field.name);
  }
  opt.nesterov = optimizer.Bool("nesterov");

  const FieldReader initializer = root.Object("initializer");
  InitializerOptions& init = options->initializer;
  init.kind = static_cast<InitializerKind>(
      NamedValue(initializer, "kind", static_cast<int>(InitializerKind::kVarianceScaling) + 1,
                 InitializerNameAt));
  for (const InitializerField& field : kInitializerFields) {
    init.*field.member = initializer.Float(field.name);
  }
  init.mode = static_cast<VarianceMode>(
      NamedValue(initializer, "mode", 3, [](int i) { return kModes[i]; }));
  init.distribution = static_cast<VarianceDistribution>(
      NamedValue(initializer, "distribution", 3, [](int i) { return kDistributions[i]; }));
  init.fan_in = initializer.Int("fan_in", 0);
}

void PutAdmissionOptions(const TableOptions& options, Json* root) {
  Json& admission = (*root)["admission"];
  admission["threshold"] = options.admission.threshold;
  admission["coefficient"] = options.admission.coefficient;
  admission["mode"] = AdmissionModeName(options.admission.mode);
  admission["expected_keys"] = options.admission.expected_keys;

  Json& eviction = (*root)["eviction"];
  eviction["max_age"] = options.eviction.max_age;
  eviction["max_rows"] = options.eviction.max_rows;
  eviction["min_l2"] = FloatJson(options.eviction.min_l2);
}

void GetAdmissionOptions(const FieldReader& root, TableOptions* options) {
  const FieldReader admission = root.Object("admission");
  options->admission.threshold = admission.Int("threshold");
  options->admission.coefficient = admission.Int("coefficient");
  options->admission.mode = static_cast<AdmissionMode>(NamedValue(admission, "mode", 2, [](int i) {
    return AdmissionModeName(static_cast<AdmissionMode>(i));
  }));
  options->admission.expected_keys = admission.Int("expected_keys");

  const FieldReader eviction = root.Object("eviction");
  options->eviction.max_age = eviction.Int("max_age");
  options->eviction.max_rows = eviction.Int("max_rows");
  options->eviction.min_l2 = eviction.Float("min_l2");
}

}  // namespace mxrec::checkpoint
