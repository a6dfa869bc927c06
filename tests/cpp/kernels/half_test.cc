#include "kernels/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/half_bits.h"
#include "kernels/instruction_sets.h"
#include "mxrec/runtime.h"
#include "optimizers/random_seed.h"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mxrec {
namespace {

using kernels::Bfloat16;
using kernels::Float16;
using testing::ForEachInstructionSet;
using testing::TestSeed;

constexpr ValueType kTypes[] = {ValueType::kFloat16, ValueType::kBfloat16};

uint16_t Nearest(ValueType type, float v) {
  return type == ValueType::kFloat16 ? Float16::Nearest(v) : Bfloat16::Nearest(v);
}
uint16_t Stochastic(ValueType type, float v, uint32_t random) {
  return type == ValueType::kFloat16 ? Float16::Stochastic(v, random)
                                     : Bfloat16::Stochastic(v, random);
}
float ToFloat(ValueType type, uint16_t half) {
  return type == ValueType::kFloat16 ? Float16::ToFloat(half) : Bfloat16::ToFloat(half);
}

// The definition, in double: neither bits nor shifts.
double Meaning(ValueType type, uint16_t half) {
  const int mantissa_bits = type == ValueType::kFloat16 ? 10 : 7;
  const int bias = type == ValueType::kFloat16 ? 15 : 127;
  const int exponent = (half & 0x7fff) >> mantissa_bits;
  const int mantissa = half & ((1 << mantissa_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

uint16_t Largest(ValueType type) { return type == ValueType::kFloat16 ? 0x7bff : 0x7f7f; }

// Every half, what lies beside and between neighbours, and random bit patterns.
std::vector<float> EdgeFloats(ValueType type) {
  std::vector<float> values;
  for (uint32_t h = 0; h <= Largest(type); ++h) {
    const auto value = static_cast<float>(Meaning(type, static_cast<uint16_t>(h)));
    const auto next = static_cast<float>(Meaning(type, static_cast<uint16_t>(h + 1)));
    const float middle = value + (next - value) / 2;
    for (const float v : {value, middle, std::nextafter(middle, 0.0f),
                          std::nextafter(middle, std::numeric_limits<float>::infinity())}) {
      values.push_back(v);
      values.push_back(-v);
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float v :
       {infinity, std::numeric_limits<float>::max(), 65504.0f, 65519.996f, 65520.0f,
        std::numeric_limits<float>::denorm_min(), 1e-42f, std::numeric_limits<float>::quiet_NaN(),
        std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0x7fffffffu)}) {
    values.push_back(v);
    values.push_back(-v);
  }
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 100'000; ++i) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  }
  return values;
}

TEST(HalfBitsTest, ToFloatIsTheDefinition) {
  for (const ValueType type : kTypes) {
    for (uint32_t h = 0; h < 0x10000; ++h) {
      const auto half = static_cast<uint16_t>(h);
      const float value = ToFloat(type, half);
      if ((half & 0x7fff) <= Largest(type)) {
        ASSERT_EQ(static_cast<double>(value), Meaning(type, half)) << ValueTypeName(type) << h;
        ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0);
        ASSERT_EQ(Nearest(type, value), half);
        ASSERT_EQ(Stochastic(type, value, 0xffffffffu), half);
      } else if ((half & 0x7fff) == Largest(type) + 1) {
        ASSERT_TRUE(std::isinf(value));
      } else {
        ASSERT_TRUE(std::isnan(value));
      }
    }
  }
}

TEST(HalfBitsTest, NearestIsTheNearestAndTiesGoToEven) {
  MXREC_TRACE_SEED();
  for (const ValueType type : kTypes) {
    for (const float v : EdgeFloats(type)) {
      const uint16_t half = Nearest(type, v);
      if (std::isnan(v)) {
        ASSERT_EQ(half, type == ValueType::kFloat16 ? 0x7e00 : 0x7fc0);
        continue;
      }
      ASSERT_EQ((half & 0x8000) != 0, std::signbit(v)) << v;
      const auto magnitude = static_cast<uint16_t>(half & 0x7fff);
      ASSERT_LE(magnitude, Largest(type)) << v;  // never infinite
      const double wanted = std::fabs(static_cast<double>(v));
      if (wanted >= Meaning(type, Largest(type))) {
        ASSERT_EQ(magnitude, Largest(type)) << v;
        continue;
      }
      const double error = std::fabs(Meaning(type, magnitude) - wanted);
      for (const int step : {-1, 1}) {
        if (magnitude + step < 0 || magnitude + step > Largest(type)) continue;
        const double other =
            std::fabs(Meaning(type, static_cast<uint16_t>(magnitude + step)) - wanted);
        ASSERT_TRUE(error < other || (error == other && magnitude % 2 == 0)) << v;
      }
    }
  }
}

TEST(HalfBitsTest, StochasticPicksANeighbourWithTheRightChance) {
  MXREC_TRACE_SEED();
  std::mt19937_64 random(TestSeed());
  for (const ValueType type : kTypes) {
    const float smallest = static_cast<float>(Meaning(type, 1));
    const float cases[] = {1.0f + 0.3f / 1024, -0.1f,     3.14159f, 1e-3f,
                           2.5f * smallest,    -1000.77f, 1e-6f,    0.75f * smallest};
    for (const float v : cases) {
      constexpr int kDraws = 200'000;
      double sum = 0.0;
      double low = INFINITY, high = -INFINITY;
      for (int i = 0; i < kDraws; ++i) {
        const double drawn = Meaning(type, Stochastic(type, v, static_cast<uint32_t>(random())));
        sum += drawn;
        low = std::min(low, drawn);
        high = std::max(high, drawn);
      }
      ASSERT_LE(low, v);
      ASSERT_GE(high, v);
      const double gap = high - low;
      // Neighbours: nothing of the format lies strictly between.
      const uint16_t below =
          Nearest(type, static_cast<float>(std::min(std::fabs(low), std::fabs(high))));
      ASSERT_EQ(Meaning(type, static_cast<uint16_t>((below & 0x7fff) + 1)),
                std::max(std::fabs(low), std::fabs(high)))
          << v;
      // Six standard deviations of the mean, at most gap / 2 each.
      ASSERT_NEAR(sum / kDraws, v, 6 * gap / 2 / std::sqrt(kDraws)) << v;
    }
  }
}

TEST(HalfBitsTest, RoundingBitsAreUniformAndDifferByColumnRowAndStep) {
  MXREC_TRACE_SEED();
  const auto seed = static_cast<uint32_t>(TestSeed());
  constexpr int kStreams = 400, kColumns = 64;
  std::vector<int> ones(32), agree_column(32), agree_step(32), agree_row(32);
  for (int row = 0; row < kStreams; ++row) {
    const uint32_t identity = seed + static_cast<uint32_t>(row);
    for (int c = 0; c < kColumns; ++c) {
      const uint32_t bits = kernels::RoundingBits(kernels::RoundingStream(identity, 7), c);
      const uint32_t column = kernels::RoundingBits(kernels::RoundingStream(identity, 7), c + 1);
      const uint32_t step = kernels::RoundingBits(kernels::RoundingStream(identity, 8), c);
      const uint32_t other = kernels::RoundingBits(kernels::RoundingStream(identity + 1, 7), c);
      for (int b = 0; b < 32; ++b) {
        ones[b] += (bits >> b) & 1;
        agree_column[b] += (~(bits ^ column) >> b) & 1;
        agree_step[b] += (~(bits ^ step) >> b) & 1;
        agree_row[b] += (~(bits ^ other) >> b) & 1;
      }
    }
  }
  constexpr double kDraws = kStreams * kColumns;
  const double tolerance = 6 * std::sqrt(kDraws) / 2;
  for (int b = 0; b < 32; ++b) {
    for (const int count : {ones[b], agree_column[b], agree_step[b], agree_row[b]}) {
      EXPECT_NEAR(count, kDraws / 2, tolerance) << "bit " << b;
    }
  }
}

TEST(HalfTest, EveryTargetPromotesAllPatternsAsTheReference) {
  std::vector<uint16_t> halves(0x10000);
  for (uint32_t h = 0; h < 0x10000; ++h) halves[h] = static_cast<uint16_t>(h);
  ForEachInstructionSet([&] {
    for (const ValueType type : kTypes) {
      std::vector<float> out(halves.size());
      kernels::PromoteRow(type, halves.data(), halves.size(), out.data());
      for (uint32_t h = 0; h < 0x10000; ++h) {
        ASSERT_EQ(std::bit_cast<uint32_t>(out[h]),
                  std::bit_cast<uint32_t>(ToFloat(type, static_cast<uint16_t>(h))))
            << ValueTypeName(type) << " " << h;
      }
    }
  });
}

TEST(HalfTest, EveryTargetDemotesAsTheReference) {
  MXREC_TRACE_SEED();
  ForEachInstructionSet([&] {
    for (const ValueType type : kTypes) {
      const std::vector<float> values = EdgeFloats(type);
      std::vector<uint16_t> nearest(values.size()), stochastic(values.size());
      const uint64_t stream = TestSeed() * 0x9e3779b97f4a7c15ull;
      kernels::DemoteRow(type, values.data(), values.size(), nearest.data());
      kernels::DemoteRowStochastic(type, values.data(), values.size(), stream, stochastic.data());
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(nearest[i], Nearest(type, values[i])) << ValueTypeName(type) << values[i];
        ASSERT_EQ(
            stochastic[i],
            Stochastic(type, values[i], kernels::RoundingBits(stream, static_cast<uint32_t>(i))))
            << ValueTypeName(type) << values[i];
      }
    }
  });
}

TEST(HalfTest, EveryLengthTouchesNothingBeyondIt) {
  MXREC_TRACE_SEED();
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> normal;
  ForEachInstructionSet([&] {
    for (const ValueType type : kTypes) {
      for (size_t n = 0; n <= 67; ++n) {
        std::vector<float> values(n);
        for (float& v : values) v = normal(random);
        std::vector<uint16_t> halves(n + 1, 0xabcd), drawn(n + 1, 0xabcd);
        std::vector<float> back(n + 1, 9.0f);
        kernels::DemoteRow(type, values.data(), n, halves.data());
        kernels::DemoteRowStochastic(type, values.data(), n, n, drawn.data());
        kernels::PromoteRow(type, halves.data(), n, back.data());
        for (size_t c = 0; c < n; ++c) {
          ASSERT_EQ(halves[c], Nearest(type, values[c]));
          ASSERT_EQ(drawn[c], Stochastic(type, values[c],
                                         kernels::RoundingBits(n, static_cast<uint32_t>(c))));
          ASSERT_EQ(back[c], ToFloat(type, halves[c]));
        }
        ASSERT_EQ(halves[n], 0xabcd);
        ASSERT_EQ(drawn[n], 0xabcd);
        ASSERT_EQ(back[n], 9.0f);
      }
    }
  });
}

TEST(HalfTest, CopiersEqualTheReferenceInBothGatherModes) {
  MXREC_TRACE_SEED();
  std::mt19937_64 random(TestSeed());
  ForEachInstructionSet([&] {
    for (const ValueType type : kTypes) {
      for (const size_t dim : {1, 2, 7, 16, 33}) {
        constexpr size_t kRows = 40;
        const size_t stride = (dim + 1) / 2;  // floats
        std::vector<float> memory(kRows * stride), absent(dim);
        std::vector<const float*> rows;
        for (float& v : absent) v = static_cast<float>(random() % 100) / 7;
        for (size_t i = 0; i < kRows; ++i) {
          for (size_t c = 0; c < dim; ++c) {
            const auto half = static_cast<uint16_t>(random());
            std::memcpy(reinterpret_cast<char*>(&memory[i * stride]) + 2 * c, &half, 2);
          }
          rows.push_back(random() % 4 == 0 ? nullptr : &memory[i * stride]);
        }
        for (const float* absent_row :
             {static_cast<const float*>(absent.data()), static_cast<const float*>(nullptr)}) {
          for (const GatherMode mode : {GatherMode::kHighPerformance, GatherMode::kHighPrecision}) {
            SetGatherMode(mode);
            std::vector<float> out(kRows * dim, -1.0f), wanted(kRows * dim);
            const kernels::RowCopier copy = kernels::ChoosePromotingCopier(type);
            copy(rows.data(), kRows, dim, absent_row, out.data());
            copy.Finish();
            for (size_t i = 0; i < kRows * dim; ++i) {
              uint16_t half = 0;
              if (rows[i / dim] != nullptr) {
                const auto* bytes = reinterpret_cast<const char*>(rows[i / dim]);
                std::memcpy(&half, bytes + 2 * (i % dim), 2);
              }
              wanted[i] = rows[i / dim] != nullptr ? ToFloat(type, half)
                          : absent_row != nullptr  ? absent[i % dim]
                                                   : 0.0f;
            }
            ASSERT_EQ(0, std::memcmp(out.data(), wanted.data(), out.size() * sizeof(float)));
          }
        }
        SetGatherMode(GatherMode::kHighPerformance);
      }
    }
  });
}

#if defined(__SSE__) || defined(__aarch64__)
#if defined(__SSE__)
constexpr uint64_t kFlushDenormals = 0x8040;
uint64_t FloatControl() { return _mm_getcsr(); }
void SetFloatControl(uint64_t bits) { _mm_setcsr(static_cast<unsigned>(bits)); }
#else
constexpr uint64_t kFlushDenormals = uint64_t{1} << 24;
uint64_t FloatControl() {
  uint64_t bits;
  asm volatile("mrs %0, fpcr" : "=r"(bits)::"memory");
  return bits;
}
void SetFloatControl(uint64_t bits) { asm volatile("msr fpcr, %0" ::"r"(bits) : "memory"); }
#endif

// TensorFlow's threads flush denormals to zero.
TEST(HalfTest, FlushingDenormalsChangesNothing) {
  MXREC_TRACE_SEED();
  for (const ValueType type : kTypes) {
    const std::vector<float> values = EdgeFloats(type);
    std::vector<uint16_t> halves(0x10000);
    for (uint32_t h = 0; h < 0x10000; ++h) halves[h] = static_cast<uint16_t>(h);
    std::vector<uint16_t> nearest[2], stochastic[2];
    std::vector<float> floats[2];
    const uint64_t before = FloatControl();
    for (const int flush : {0, 1}) {
      nearest[flush].resize(values.size());
      stochastic[flush].resize(values.size());
      floats[flush].resize(halves.size());
      if (flush == 1) SetFloatControl(before | kFlushDenormals);
      kernels::DemoteRow(type, values.data(), values.size(), nearest[flush].data());
      kernels::DemoteRowStochastic(type, values.data(), values.size(), 5, stochastic[flush].data());
      kernels::PromoteRow(type, halves.data(), halves.size(), floats[flush].data());
    }
    SetFloatControl(before);
    EXPECT_EQ(nearest[0], nearest[1]);
    EXPECT_EQ(stochastic[0], stochastic[1]);
    EXPECT_EQ(0, std::memcmp(floats[0].data(), floats[1].data(), halves.size() * sizeof(float)));
  }
}
#endif

}  // namespace
}  // namespace mxrec
