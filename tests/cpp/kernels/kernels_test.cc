// Every kernel on every instruction set of this machine, with any number of threads, against plain
// loops written here: bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/instruction_sets.h"
#include "kernels/magnitude.h"
#include "kernels/row_copier.h"
#include "mxrec/runtime.h"
#include "optimizers/random_seed.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

using testing::ForEachInstructionSet;
using testing::TestSeed;

// Restores gather mode, streaming threshold and number of threads when a test ends.
class KernelsTest : public ::testing::Test {
 protected:
  ~KernelsTest() override {
    SetGatherMode(GatherMode::kHighPerformance);
    kernels::SetStreamingThresholdBytes(0);
    WorkerPool::Get().SetNumThreads(threads_);
  }

 private:
  const int threads_ = WorkerPool::Get().num_threads();
};

struct Shape {
  size_t n, u;
  int dim;
};

// The fixed dims, those around a vector's width, and some at random.
std::vector<Shape> Shapes() {
  std::vector<Shape> shapes = {{0, 5, 7},        {1, 1, 1},    {100, 7, 3},      {5000, 900, 17},
                               {9000, 3000, 64}, {3, 2, 8192}, {20000, 5000, 1}, {6000, 1, 16}};
  std::mt19937_64 random(TestSeed());
  for (const int dim : {2, 4, 7, 8, 9, 15, 16, 24, 31, 32, 33, 63, 65, 127, 128, 129}) {
    shapes.push_back({random() % 3000, 1 + random() % 500, dim});
  }
  for (int i = 0; i < 8; ++i) {
    shapes.push_back({random() % 2000, 1 + random() % 2000, 1 + static_cast<int>(random() % 300)});
  }
  return shapes;
}

// Any bits: quiet and signalling NaNs, infinities and denormals are to be copied as they are.
float AnyFloat(std::mt19937_64& random) {
  const auto bits = static_cast<uint32_t>(random());
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

struct Batch {
  size_t n, u;
  int dim;
  std::vector<int32_t> inverse;
  std::vector<float> values;  // [n, dim], finite
  std::vector<float> rows;    // [u, dim], any bits

  std::string name() const {
    return std::to_string(n) + " of " + std::to_string(u) + " x " + std::to_string(dim);
  }
};

// A skewed batch with some indices below and above the range.
Batch MakeBatch(const Shape& shape, bool above) {
  const auto [n, u, dim] = shape;
  std::mt19937_64 random(TestSeed() + n * 31 + u * 7 + dim);
  std::normal_distribution<float> normal;
  Batch b{n, u, dim, {}, std::vector<float>(n * dim), std::vector<float>(u * dim)};
  for (size_t i = 0; i < n; ++i) {
    int32_t j = static_cast<int32_t>(random() % 2 == 0 ? random() % (u / 10 + 1) : random() % u);
    if (random() % 20 == 0) j = -1;
    if (above && random() % 20 == 0) j = static_cast<int32_t>(u + random() % 3);
    b.inverse.push_back(j);
  }
  for (float& v : b.values) v = normal(random);
  for (float& v : b.rows) v = AnyFloat(random);
  return b;
}

bool SameBits(const float* a, const std::vector<float>& b) {
  return b.empty() || std::memcmp(a, b.data(), b.size() * sizeof(float)) == 0;
}

// Memory for an output at a chosen distance from a cache line, with a mark behind its end.
class Output {
 public:
  Output(size_t size, size_t offset) : size_(size), memory_(size + 64 + 1, 9.0f) {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float);
    begin_ = memory_.data() + (16 - at % 16) % 16 + offset;
    begin_[size_] = 7.0f;
  }
  float* data() { return begin_; }
  bool Is(const std::vector<float>& expected) const {
    return expected.size() == size_ && SameBits(begin_, expected) && begin_[size_] == 7.0f;
  }

 private:
  size_t size_;
  std::vector<float> memory_;
  float* begin_;
};

constexpr size_t kOffsets[] = {0, 4, 8, 1};  // floats: of a line, of malloc, of AVX2, of nothing

TEST_F(KernelsTest, RowCopier) {
  MXREC_TRACE_SEED();
  const auto test = [](const Shape& shape) {
    const Batch b = MakeBatch(shape, false);
    SCOPED_TRACE(b.name());
    const size_t dim = static_cast<size_t>(b.dim);
    std::mt19937_64 random(TestSeed());
    std::vector<float> absent(dim);
    for (float& v : absent) v = AnyFloat(random);
    std::vector<const float*> from(b.n);
    for (size_t i = 0; i < b.n; ++i) {
      from[i] = b.inverse[i] < 0 ? nullptr : b.rows.data() + b.inverse[i] * dim;
    }
    for (const float* absent_row : {static_cast<float*>(nullptr), absent.data()}) {
      std::vector<float> expected(b.n * dim);
      for (size_t i = 0; i < b.n; ++i) {
        const float* row = from[i] == nullptr ? absent_row : from[i];
        if (row != nullptr) std::memcpy(&expected[i * dim], row, dim * sizeof(float));
      }
      for (const size_t output_bytes : {size_t{0}, kernels::StreamingThresholdBytes()}) {
        const kernels::RowCopier copy = kernels::ChooseRowCopier(b.dim, output_bytes);
        EXPECT_EQ(copy.streams(),
                  output_bytes > 0 && GetGatherMode() == GatherMode::kHighPerformance);
        for (const size_t offset : kOffsets) {
          Output out(expected.size(), offset);
          const size_t half = b.n / 2;
          copy(from.data(), half, dim, absent_row, out.data());
          copy(from.data() + half, b.n - half, dim, absent_row, out.data() + half * dim);
          copy.Finish();
          EXPECT_TRUE(out.Is(expected)) << output_bytes << " bytes, offset " << offset;
        }
      }
    }
  };
  ForEachInstructionSet([&] {
    for (const Shape& shape : Shapes()) test(shape);
  });
  SetGatherMode(GatherMode::kHighPrecision);
  for (const Shape& shape : Shapes()) test(shape);
}

TEST_F(KernelsTest, GatherRows) {
  MXREC_TRACE_SEED();
  ForEachInstructionSet([&] {
    for (const Shape& shape : Shapes()) {
      const Batch b = MakeBatch(shape, false);
      SCOPED_TRACE(b.name());
      std::vector<float> expected(b.values.size(), 0.0f);
      for (size_t i = 0; i < b.n; ++i) {
        if (b.inverse[i] < 0) continue;
        std::memcpy(&expected[i * b.dim], &b.rows[static_cast<size_t>(b.inverse[i]) * b.dim],
                    b.dim * sizeof(float));
      }
      for (const GatherMode mode : {GatherMode::kHighPerformance, GatherMode::kHighPrecision}) {
        SetGatherMode(mode);
        for (const int threads : {1, 3}) {
          WorkerPool::Get().SetNumThreads(threads);
          Output out(expected.size(), 1);
          kernels::GatherRows(b.rows.data(), b.inverse.data(), b.n, b.dim, out.data());
          EXPECT_TRUE(out.Is(expected)) << GatherModeName(mode) << ", threads " << threads;
        }
      }
    }
  });
}

// An output that is beyond the streaming threshold by itself, on several threads.
TEST_F(KernelsTest, GatherRowsStreamsLargeOutputs) {
  const size_t dim = 32, u = 1000;
  kernels::SetStreamingThresholdBytes(size_t{4} << 20);
  const size_t n = kernels::StreamingThresholdBytes() / (dim * sizeof(float)) + 77;
  std::mt19937_64 random(TestSeed());
  std::vector<float> rows(u * dim);
  for (float& v : rows) v = AnyFloat(random);
  std::vector<int32_t> inverse(n);
  for (int32_t& j : inverse) j = static_cast<int32_t>(random() % (u + 1)) - 1;
  WorkerPool::Get().SetNumThreads(4);
  Output fast(n * dim, 0);
  kernels::GatherRows(rows.data(), inverse.data(), n, dim, fast.data());
  SetGatherMode(GatherMode::kHighPrecision);
  std::vector<float> plain(n * dim);
  kernels::GatherRows(rows.data(), inverse.data(), n, dim, plain.data());
  EXPECT_TRUE(fast.Is(plain));
}

TEST_F(KernelsTest, StreamingThresholdIsOfTheMachineUnlessSet) {
  const size_t of_machine = kernels::StreamingThresholdBytes();
  EXPECT_GT(of_machine, 0u);
  kernels::SetStreamingThresholdBytes(1000);
  EXPECT_EQ(kernels::StreamingThresholdBytes(), 1000u);
  EXPECT_FALSE(kernels::ChooseRowCopier(8, 999).streams());
  EXPECT_TRUE(kernels::ChooseRowCopier(8, 1000).streams());
  kernels::SetStreamingThresholdBytes(0);
  EXPECT_EQ(kernels::StreamingThresholdBytes(), of_machine);
}

TEST_F(KernelsTest, SegmentSum) {
  MXREC_TRACE_SEED();
  ForEachInstructionSet([&] {
    for (const Shape& shape : Shapes()) {
      const Batch b = MakeBatch(shape, true);
      SCOPED_TRACE(b.name());
      std::vector<float> expected(b.rows.size(), 0.0f);
      for (size_t i = 0; i < b.n; ++i) {
        if (b.inverse[i] < 0 || static_cast<size_t>(b.inverse[i]) >= b.u) continue;
        for (int c = 0; c < b.dim; ++c) {
          expected[b.inverse[i] * b.dim + c] += b.values[i * b.dim + c];
        }
      }
      for (const int threads : {1, 2, 5}) {
        WorkerPool::Get().SetNumThreads(threads);
        Output out(expected.size(), 1);
        kernels::SegmentSum(b.values.data(), b.inverse.data(), b.n, b.u, b.dim, out.data());
        EXPECT_TRUE(out.Is(expected)) << "threads " << threads;
      }
    }
  });
}

TEST_F(KernelsTest, EmptyBatches) {
  ForEachInstructionSet([] {
    for (const int dim : {1, 4, 7, 128}) {
      for (const GatherMode mode : {GatherMode::kHighPerformance, GatherMode::kHighPrecision}) {
        SetGatherMode(mode);
        kernels::GatherRows(nullptr, nullptr, 0, dim, nullptr);
        for (const size_t bytes : {size_t{0}, std::numeric_limits<size_t>::max()}) {
          kernels::ChooseRowCopier(dim, bytes)(nullptr, 0, dim, nullptr, nullptr);
        }
      }
      kernels::SegmentSum(nullptr, nullptr, 0, 0, dim, nullptr);
      std::vector<float> out(2 * dim, 9.0f);
      kernels::SegmentSum(nullptr, nullptr, 0, 2, dim, out.data());
      EXPECT_EQ(out, std::vector<float>(2 * dim, 0.0f));
    }
    EXPECT_EQ(kernels::FirstNonFinite(nullptr, 0), 0u);
  });
}

TEST_F(KernelsTest, RowsWithoutColumnsAreNothing) {
  const int32_t inverse[] = {0, 0};
  kernels::GatherRows(nullptr, inverse, 2, 0, nullptr);
}

TEST_F(KernelsTest, FirstNonFiniteFindsTheFirst) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  ForEachInstructionSet([&] {
    for (const size_t n : {size_t{1}, size_t{7}, size_t{33}, size_t{100003}}) {
      std::vector<float> values(n, std::numeric_limits<float>::max());
      EXPECT_EQ(kernels::FirstNonFinite(values.data(), n), n);
      for (const size_t at : {n - 1, n / 2, n / 11, size_t{0}}) {  // later ones stay
        values[at] = bad[at % 3];
        EXPECT_EQ(kernels::FirstNonFinite(values.data(), n), at) << n;
      }
    }
  });
}

TEST_F(KernelsTest, FirstNonFiniteOfRandomBits) {
  MXREC_TRACE_SEED();
  ForEachInstructionSet([] {
    std::mt19937_64 random(TestSeed());
    for (int round = 0; round < 200; ++round) {
      std::vector<float> values(random() % 700);
      for (float& v : values) v = AnyFloat(random);
      size_t expected = 0;
      while (expected < values.size() && std::isfinite(values[expected])) ++expected;
      ASSERT_EQ(kernels::FirstNonFinite(values.data(), values.size()), expected);
    }
  });
}

// Magnitudes order like the bits of a float without its sign, NaN above infinity.
float PlainMagnitude(const float* values, size_t n) {
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
  }
  return std::bit_cast<float>(largest);
}

::testing::AssertionResult MagnitudeIsPlain(const float* values, size_t n) {
  const auto found = std::bit_cast<uint32_t>(kernels::LargestMagnitude(values, n));
  const auto expected = std::bit_cast<uint32_t>(PlainMagnitude(values, n));
  if (found == expected) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << n << " values: bits " << found << " instead of " << expected;
}

TEST_F(KernelsTest, LargestMagnitudeOfRandomBits) {
  MXREC_TRACE_SEED();
  EXPECT_EQ(std::bit_cast<uint32_t>(kernels::LargestMagnitude(nullptr, 0)), 0u);
  ForEachInstructionSet([] {
    std::mt19937_64 random(TestSeed());
    for (size_t n = 0; n < 300; ++n) {
      // Exponents below a limit, most often: else some NaN would be the largest almost every time.
      const uint32_t limit = random() % 4 == 0 ? 256 : random() % 256;
      const size_t offset = random() % 4;
      std::vector<float> values(offset + n + 1);
      for (float& v : values) {
        const auto bits = std::bit_cast<uint32_t>(AnyFloat(random));
        v = std::bit_cast<float>((bits >> 23 & 0xff) < limit ? bits : bits & 0x807fffffu);
      }
      values.back() = std::numeric_limits<float>::quiet_NaN();  // one past the end
      ASSERT_TRUE(MagnitudeIsPlain(values.data() + offset, n));
    }
  });
}

TEST_F(KernelsTest, LargestMagnitudeFindsAValueWhereverItIs) {
  using Limits = std::numeric_limits<float>;
  const float largest[] = {Limits::quiet_NaN(),  -Limits::quiet_NaN(), Limits::signaling_NaN(),
                           Limits::infinity(),   -Limits::infinity(),  Limits::max(),
                           -Limits::max(),       Limits::min(),        Limits::denorm_min(),
                           -Limits::denorm_min()};
  ForEachInstructionSet([&] {
    for (const size_t n : {1, 2, 3, 5, 16, 17, 63, 64, 65, 97, 131}) {
      std::vector<float> values(n, -0.0f);
      ASSERT_EQ(std::bit_cast<uint32_t>(kernels::LargestMagnitude(values.data(), n)), 0u) << n;
      for (const float value : largest) {
        for (size_t at = 0; at < n; ++at) {
          values[at] = value;
          const float found = kernels::LargestMagnitude(values.data(), n);
          ASSERT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(value) & 0x7fffffffu)
              << value << " at " << at << " of " << n;
          ASSERT_EQ(std::isfinite(found), std::isfinite(value));
          values[at] = -0.0f;
        }
      }
    }
  });
}

TEST_F(KernelsTest, EveryInstructionSetOfThisArchitectureIsBuilt) {
#if HWY_ARCH_X86
  const int64_t expected = HWY_SSE4 | HWY_AVX2 | HWY_AVX3;
#elif HWY_ARCH_ARM
  const int64_t expected = HWY_NEON;
#else
  const int64_t expected = 0;
#endif
  EXPECT_EQ(HWY_TARGETS & expected, expected);
  EXPECT_GT(std::string(kernels::Target()).size(), 2u);
}

TEST_F(KernelsTest, GatherModeIsHighPerformanceUnlessSet) {
  EXPECT_EQ(GetGatherMode(), GatherMode::kHighPerformance);
  EXPECT_STREQ(GatherModeName(GetGatherMode()), "high_performance");
  SetGatherMode(GatherMode::kHighPrecision);
  EXPECT_STREQ(GatherModeName(GetGatherMode()), "high_precision");
}

}  // namespace
}  // namespace mxrec
