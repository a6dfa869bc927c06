#include "mxrec/options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace mxrec {
namespace {

TableOptions Valid() {
  TableOptions options;
  options.name = "user";
  options.dim = 8;
  return options;
}

// The change must be refused with a message that names the parameter.
template <class Change>
void ExpectRefused(const char* parameter, const Change& change) {
  TableOptions options = Valid();
  change(options);
  const Status status = Validate(options);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << parameter;
  EXPECT_EQ(status.message().rfind(parameter, 0), 0u) << status.message();
}

TEST(OptionsTest, TableRanges) {
  EXPECT_TRUE(Validate(Valid()).ok());
  ExpectRefused("dim", [](auto& o) { o.dim = 0; });
  ExpectRefused("dim", [](auto& o) { o.dim = kMaxDim + 1; });
  ExpectRefused("memory_rows", [](auto& o) { o.memory_rows = -1; });
  for (const int shards : {-1, 3, 512, std::numeric_limits<int>::min()}) {
    ExpectRefused("num_shards", [&](auto& o) { o.num_shards = shards; });
  }
  for (const char* name : {"", "a\nb", "\xff", "\xc3", "\xed\xa0\x80", "\xc0\x80"}) {
    ExpectRefused("name", [&](auto& o) { o.name = name; });
  }
  ExpectRefused("name", [](auto& o) { o.name = std::string(101, 'a'); });
  TableOptions wide = Valid();
  wide.name.clear();
  for (int i = 0; i < 100; ++i) wide.name += "\xe8\xa1\xa8";  // 100 characters, 300 bytes
  EXPECT_TRUE(Validate(wide).ok());
}

TEST(OptionsTest, OptimizerRanges) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](const char* parameter, OptimizerKind kind, auto change) {
    ExpectRefused(parameter, [&](TableOptions& o) {
      o.optimizer.kind = kind;
      change(o.optimizer);
    });
  };
  refused("learning_rate", OptimizerKind::kSgd, [](auto& o) { o.learning_rate = -1; });
  refused("beta2", OptimizerKind::kSgd, [&](auto& o) { o.beta2 = nan; });
  refused("weight_decay", OptimizerKind::kSgd, [](auto& o) { o.weight_decay = 1.5f; });
  refused("momentum", OptimizerKind::kMomentum, [](auto& o) { o.momentum = 1.5f; });
  refused("initial_accumulator_value", OptimizerKind::kAdagrad,
          [](auto& o) { o.initial_accumulator_value = 0; });
  refused("learning_rate_power", OptimizerKind::kFtrl,
          [](auto& o) { o.learning_rate_power = 0.5f; });
  refused("l1_regularization", OptimizerKind::kFtrl, [](auto& o) { o.l1_regularization = -1; });
  refused("beta1", OptimizerKind::kLazyAdam, [](auto& o) { o.beta1 = 1; });
  refused("epsilon", OptimizerKind::kLazyAdam, [](auto& o) { o.epsilon = 0; });
  refused("optimizer kind", static_cast<OptimizerKind>(77), [](auto&) {});
}

TEST(OptionsTest, InitializerRanges) {
  ExpectRefused("low", [](auto& o) {
    o.initializer.kind = InitializerKind::kUniform;
    o.initializer.low = 1.0f;
  });
  ExpectRefused("stddev", [](auto& o) {
    o.initializer.kind = InitializerKind::kNormal;
    o.initializer.stddev = -1.0f;
  });
  ExpectRefused("scale", [](auto& o) {
    o.initializer.kind = InitializerKind::kVarianceScaling;
    o.initializer.scale = 0.0f;
  });
  ExpectRefused("gain", [](auto& o) { o.initializer.gain = INFINITY; });
  ExpectRefused("initializer kind",
                [](auto& o) { o.initializer.kind = static_cast<InitializerKind>(77); });
}

TEST(OptionsTest, SlotNamesAreAsManyAsSlots) {
  for (int kind = 0; kind <= static_cast<int>(OptimizerKind::kLazyAdam); ++kind) {
    const auto k = static_cast<OptimizerKind>(kind);
    EXPECT_EQ(SlotNames(k).size(), static_cast<size_t>(SlotCount(k))) << OptimizerName(k);
  }
}

}  // namespace
}  // namespace mxrec
