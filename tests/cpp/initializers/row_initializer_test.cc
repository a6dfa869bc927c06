#include "initializers/row_initializer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "initializers/portable_math.h"

namespace mxrec {
namespace {

InitializerOptions Kind(InitializerKind kind) {
  InitializerOptions options;
  options.kind = kind;
  return options;
}

std::vector<float> Draw(const InitializerOptions& options, int rows, int dim, uint64_t seed = 7) {
  const RowInitializer initializer(options, seed, dim);
  std::vector<float> values(static_cast<size_t>(rows) * dim);
  for (int key = 0; key < rows; ++key) initializer.Fill(key, values.data() + size_t(key) * dim);
  return values;
}

struct Moments {
  double mean = 0, stddev = 0, min = 0, max = 0;
};

Moments Of(const std::vector<float>& values) {
  Moments m;
  for (const float v : values) m.mean += v;
  m.mean /= static_cast<double>(values.size());
  for (const float v : values) m.stddev += (v - m.mean) * (v - m.mean);
  m.stddev = std::sqrt(m.stddev / static_cast<double>(values.size()));
  m.min = *std::min_element(values.begin(), values.end());
  m.max = *std::max_element(values.begin(), values.end());
  return m;
}

TEST(PortableMathTest, LogMatchesTheLibrary) {
  for (double x = 1e-16; x < 1e6; x *= 1.0173) {
    EXPECT_NEAR(PortableLog(x), std::log(x), 4e-16 * std::max(1.0, std::fabs(std::log(x)))) << x;
  }
}

TEST(PortableMathTest, InverseNormalInvertsTheDistribution) {
  for (double p = 1e-15; p < 0.5; p *= 1.01) {
    const double x = InverseNormal(p);
    EXPECT_NEAR(0.5 * std::erfc(-x / std::sqrt(2.0)) / p, 1.0, 1e-13) << p;
    if (p > 0.01) {
      EXPECT_NEAR(InverseNormal(1.0 - p), -x, 1e-13) << p;
    }
  }
  EXPECT_EQ(InverseNormal(0.5), 0.0);
}

TEST(RowInitializerTest, ConstantsAreMultipliedByTheGain) {
  auto constant = Kind(InitializerKind::kConstant);
  constant.value = 0.5f;
  constant.gain = 3.0f;
  auto ones = Kind(InitializerKind::kOnes);
  ones.gain = 2.0f;
  EXPECT_EQ(Draw(constant, 1, 3), std::vector<float>(3, 1.5f));
  EXPECT_EQ(Draw(ones, 1, 3), std::vector<float>(3, 2.0f));
  EXPECT_EQ(Draw(Kind(InitializerKind::kZeros), 1, 3), std::vector<float>(3, 0.0f));
}

TEST(RowInitializerTest, UniformStaysBelowHigh) {
  auto options = Kind(InitializerKind::kUniform);
  options.low = -1.0f;
  options.high = 3.0f;
  const Moments m = Of(Draw(options, 20000, 8));
  EXPECT_GE(m.min, -1.0);
  EXPECT_LT(m.max, 3.0);
  EXPECT_NEAR(m.mean, 1.0, 0.02);
  EXPECT_NEAR(m.stddev, 4.0 / std::sqrt(12.0), 0.02);
  // Two neighbouring floats: rounding would return high half of the time.
  options.low = 1.0f;
  options.high = std::nextafter(1.0f, 2.0f);
  EXPECT_EQ(Draw(options, 10, 10), std::vector<float>(100, 1.0f));
}

TEST(RowInitializerTest, NormalsHaveTheirMoments) {
  auto options = Kind(InitializerKind::kNormal);
  options.mean = 0.5f;
  options.stddev = 2.0f;
  Moments m = Of(Draw(options, 20000, 10));
  EXPECT_NEAR(m.mean, 0.5, 0.03);
  EXPECT_NEAR(m.stddev, 2.0, 0.03);
  EXPECT_GT(m.max, 0.5 + 3.5 * 2);

  options.kind = InitializerKind::kTruncatedNormal;
  m = Of(Draw(options, 20000, 10));
  EXPECT_NEAR(m.mean, 0.5, 0.03);
  EXPECT_NEAR(m.stddev, 2.0 * 0.8796256610, 0.03);
  EXPECT_LE(m.max, 4.5);
  EXPECT_GE(m.min, -3.5);
}

TEST(RowInitializerTest, VarianceScalingFollowsItsFans) {
  auto options = Kind(InitializerKind::kVarianceScaling);
  options.scale = 2.0f;
  options.fan_in = 48;
  const int dim = 16;
  const struct {
    VarianceMode mode;
    double fan;
  } modes[] = {
      {VarianceMode::kFanIn, 48}, {VarianceMode::kFanOut, 16}, {VarianceMode::kFanAvg, 32}};
  for (const auto& mode : modes) {
    options.mode = mode.mode;
    for (const auto distribution :
         {VarianceDistribution::kTruncatedNormal, VarianceDistribution::kUntruncatedNormal,
          VarianceDistribution::kUniform}) {
      options.distribution = distribution;
      const double stddev = std::sqrt(2.0 / mode.fan);
      EXPECT_NEAR(Of(Draw(options, 10000, dim)).stddev, stddev, 0.02 * stddev) << mode.fan;
    }
  }
  options.mode = VarianceMode::kFanIn;
  options.fan_in = 0;  // dim stands for it
  EXPECT_NEAR(Of(Draw(options, 10000, dim)).stddev, std::sqrt(2.0 / dim), 0.01);
}

TEST(RowInitializerTest, ValueDependsOnSeedKeyAndColumnOnly) {
  const auto options = Kind(InitializerKind::kNormal);
  const RowInitializer narrow(options, 7, 5), wide(options, 7, 200), other(options, 8, 5);
  std::vector<float> a(5), b(200), c(5);
  for (const int64_t key : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    narrow.Fill(key, a.data());
    wide.Fill(key, b.data());
    other.Fill(key, c.data());
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin())) << key;
    EXPECT_NE(a, c) << key;
    narrow.Fill(key + 1, c.data());
    EXPECT_NE(a, c) << key;
  }
}

// Values are part of what a table is: a change here changes every table ever trained.
TEST(RowInitializerTest, GoldenBits) {
  std::vector<uint32_t> bits;
  for (const auto kind : {InitializerKind::kUniform, InitializerKind::kNormal,
                          InitializerKind::kTruncatedNormal, InitializerKind::kVarianceScaling}) {
    std::vector<float> row(3);
    RowInitializer(Kind(kind), 42, 3).Fill(-123456789, row.data());
    for (const float v : row) bits.push_back(std::bit_cast<uint32_t>(v));
  }
  const std::vector<uint32_t> golden = {1024518061, 3172983314, 3171157202,   // Uniform
                                        1065795704, 3214752286, 3211565324,   // Normal
                                        1065100686, 3214000089, 3210643337,   // TruncatedNormal
                                        1059422127, 3208598513, 3205631785};  // VarianceScaling
  EXPECT_EQ(bits, golden);
}

}  // namespace
}  // namespace mxrec
