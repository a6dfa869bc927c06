// Checkpoints of tables whose embeddings have 16 bits.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <string>
#include <tuple>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/checksum.h"
#include "checkpoint/manifest.h"
#include "checkpoint/save.h"
#include "env/temp_dir.h"
#include "kernels/half_bits.h"

namespace mxrec::testing {
namespace {

TableOptions HalfOptions(ValueType type, OptimizerKind kind, bool stochastic, int num_shards = 4) {
  TableOptions options = Options(kind, num_shards);
  options.value_type = type;
  options.stochastic_rounding = stochastic;
  return options;
}

uint32_t Rounded(ValueType type, uint32_t bits) {
  const auto value = std::bit_cast<float>(bits);
  return std::bit_cast<uint32_t>(
      type == ValueType::kFloat16 ? kernels::Float16::ToFloat(kernels::Float16::Nearest(value))
                                  : kernels::Bfloat16::ToFloat(kernels::Bfloat16::Nearest(value)));
}

class ValueTypeRoundTrip
    : public ::testing::TestWithParam<std::tuple<ValueType, OptimizerKind, bool>> {};

TEST_P(ValueTypeRoundTrip, KeepsEveryBitAndTheRoundingThatFollows) {
  const auto [type, kind, stochastic] = GetParam();
  const TempDir dir;
  const auto table = MakeTable(HalfOptions(type, kind, stochastic));
  Train(table.get(), 3000, TestSeed());
  const auto saved = checkpoint::SaveWithLimits(*table, dir / "t", 42, Env::Default(),
                                                {.block_bytes = 4096, .part_bytes = 50000});
  ASSERT_TRUE(saved.ok()) << saved.status().message();

  const auto loaded = LoadTable(dir / "t", 16);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value()->options().value_type, type);
  EXPECT_EQ(loaded.value()->options().stochastic_rounding, stochastic);
  EXPECT_EQ(ContentsOf(*loaded.value()), ContentsOf(*table));

  Train(table.get(), 4000, TestSeed() + 1);
  Train(loaded.value().get(), 4000, TestSeed() + 1);
  EXPECT_EQ(WithoutTimes(ContentsOf(*loaded.value())), WithoutTimes(ContentsOf(*table)));
}

TEST_P(ValueTypeRoundTrip, Float32RowsAreRoundedToNearest) {
  const auto [type, kind, stochastic] = GetParam();
  const TempDir dir;
  const auto source = MakeTable(Options(kind));
  Train(source.get(), 3000, TestSeed());
  ASSERT_TRUE(SaveTable(*source, dir / "t", 1).ok());
  const auto target = MakeTable(HalfOptions(type, kind, stochastic));
  Train(target.get(), 10, 1);
  const auto restored = RestoreTable(target.get(), dir / "t");
  ASSERT_TRUE(restored.ok()) << restored.status().message();
  EXPECT_EQ(target->options().value_type, type);

  Contents expected = ContentsOf(*source);
  for (auto& [key, row] : expected) {
    for (int c = 0; c < source->dim(); ++c) {
      std::get<2>(row)[c] = Rounded(type, std::get<2>(row)[c]);
    }
  }
  EXPECT_EQ(ContentsOf(*target), expected);

  // And back: 16 bits fit into float32.
  ASSERT_TRUE(SaveTable(*target, dir / "half", 2).ok());
  ASSERT_TRUE(RestoreTable(source.get(), dir / "half").ok());
  EXPECT_EQ(ContentsOf(*source), expected);
}

INSTANTIATE_TEST_SUITE_P(
    All, ValueTypeRoundTrip,
    ::testing::Combine(::testing::Values(ValueType::kFloat16, ValueType::kBfloat16),
                       ::testing::Values(OptimizerKind::kNone, OptimizerKind::kAdagrad,
                                         OptimizerKind::kLazyAdam),
                       ::testing::Bool()),
    [](const auto& info) {
      return std::string(ValueTypeName(std::get<0>(info.param))) +
             OptimizerName(std::get<1>(info.param)) +
             (std::get<2>(info.param) ? "Stochastic" : "Nearest");
    });

TEST(ValueTypeCheckpoint, RowsTakeTwoBytesAValue) {
  const TempDir dir;
  for (const OptimizerKind kind : {OptimizerKind::kNone, OptimizerKind::kAdagrad}) {
    const auto full = MakeTable(Options(kind));
    const auto half = MakeTable(HalfOptions(ValueType::kBfloat16, kind, true));
    Train(full.get(), 1000, 1);
    Train(half.get(), 1000, 1);
    ASSERT_TRUE(SaveTable(*full, dir / "full", 1).ok());
    ASSERT_TRUE(SaveTable(*half, dir / "half", 1).ok());
    const std::string full_part = ReadFile(dir / "full/data-00000");
    const std::string half_part = ReadFile(dir / "half/data-00000");
    // 1000 rows of 3 values, in as many blocks.
    EXPECT_EQ(full_part.size() - half_part.size(), 1000 * 3 * 2);
    EXPECT_EQ(full_part[8], 1);
    EXPECT_EQ(half_part[8], 2);
  }
}

TEST(ValueTypeCheckpoint, VersionAndValueTypeMustAgree) {
  const TempDir dir;
  const auto half = MakeTable(HalfOptions(ValueType::kFloat16, OptimizerKind::kSgd, false));
  ASSERT_TRUE(SaveTable(*half, dir / "t", 1).ok());
  const std::string good = ReadFile(dir / "t/manifest");
  const std::string body = good.substr(0, good.size() - 27);
  const auto decoded = [&](const std::string& from, const std::string& to) {
    std::string text = body;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    char line[28];
    std::snprintf(line, sizeof(line), "#xxh3-64: %016llx\n",
                  static_cast<unsigned long long>(checkpoint::Checksum(text.data(), text.size())));
    return checkpoint::DecodeManifest(text + line, "m").status();
  };
  EXPECT_TRUE(decoded("\"step\": 1", "\"step\": 2").ok());
  EXPECT_EQ(decoded("\"version\": 2", "\"version\": 1").code(), StatusCode::kDataLoss);
  EXPECT_EQ(decoded("\"float16\"", "\"float32\"").code(), StatusCode::kDataLoss);
  const Status unknown = decoded("\"float16\"", "\"float8\"");
  EXPECT_EQ(unknown.code(), StatusCode::kDataLoss);
  EXPECT_NE(unknown.message().find("table.value_dtype"), std::string::npos) << unknown.message();
  EXPECT_EQ(decoded("\"stochastic_rounding\": false", "\"stochastic_rounding\": 1").code(),
            StatusCode::kDataLoss);
}

}  // namespace
}  // namespace mxrec::testing
