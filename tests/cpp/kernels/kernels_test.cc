#include "mxrec/kernels.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "optimizers/random_seed.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

using testing::TestSeed;

struct Batch {
  size_t n, u;
  int dim;
  std::vector<int32_t> inverse;
  std::vector<float> values;  // [n, dim]
  std::vector<float> rows;    // [u, dim]
};

// A skewed batch with some indices below and above the range.
Batch MakeBatch(size_t n, size_t u, int dim, bool above) {
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
  for (float& v : b.rows) v = normal(random);
  return b;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const struct {
  size_t n, u;
  int dim;
} kShapes[] = {{1, 1, 1}, {100, 7, 3}, {5000, 900, 17}, {9000, 3000, 64}, {3, 2, 8192}};

TEST(KernelsTest, GatherRows) {
  MXREC_TRACE_SEED();
  for (const auto& shape : kShapes) {
    const Batch b = MakeBatch(shape.n, shape.u, shape.dim, false);
    std::vector<float> expected(b.values.size(), 0.0f), out(b.values.size(), 9.0f);
    for (size_t i = 0; i < b.n; ++i) {
      if (b.inverse[i] < 0) continue;
      for (int c = 0; c < b.dim; ++c) expected[i * b.dim + c] = b.rows[b.inverse[i] * b.dim + c];
    }
    kernels::GatherRows(b.rows.data(), b.inverse.data(), b.n, b.dim, out.data());
    EXPECT_TRUE(SameBits(out, expected)) << shape.n << " x " << shape.dim;
  }
}

TEST(KernelsTest, SegmentSumHasTheSameBitsWithAnyNumberOfThreads) {
  MXREC_TRACE_SEED();
  WorkerPool& pool = WorkerPool::Get();
  const int threads_before = pool.num_threads();
  for (const auto& shape : kShapes) {
    const Batch b = MakeBatch(shape.n, shape.u, shape.dim, true);
    std::vector<float> expected(b.rows.size(), 0.0f);
    for (size_t i = 0; i < b.n; ++i) {
      if (b.inverse[i] < 0 || static_cast<size_t>(b.inverse[i]) >= b.u) continue;
      for (int c = 0; c < b.dim; ++c) expected[b.inverse[i] * b.dim + c] += b.values[i * b.dim + c];
    }
    for (const int threads : {1, 2, 5}) {
      pool.SetNumThreads(threads);
      std::vector<float> out(b.rows.size(), 9.0f);
      kernels::SegmentSum(b.values.data(), b.inverse.data(), b.n, b.u, b.dim, out.data());
      EXPECT_TRUE(SameBits(out, expected)) << shape.n << " x " << shape.dim << ", " << threads;
    }
  }
  pool.SetNumThreads(threads_before);
}

TEST(KernelsTest, EmptyBatches) {
  kernels::GatherRows(nullptr, nullptr, 0, 4, nullptr);
  kernels::SegmentSum(nullptr, nullptr, 0, 0, 4, nullptr);
  std::vector<float> out(8, 9.0f);
  kernels::SegmentSum(nullptr, nullptr, 0, 2, 4, out.data());
  EXPECT_EQ(out, std::vector<float>(8, 0.0f));
  EXPECT_EQ(kernels::FirstNonFinite(nullptr, 0), 0u);
}

TEST(KernelsTest, FirstNonFiniteFindsTheFirst) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  const size_t n = 100003;
  std::vector<float> values(n, std::numeric_limits<float>::max());
  EXPECT_EQ(kernels::FirstNonFinite(values.data(), n), n);
  for (const size_t at : {n - 1, n / 2, size_t{9}, size_t{0}}) {  // later ones stay
    values[at] = bad[at % 3];
    EXPECT_EQ(kernels::FirstNonFinite(values.data(), n), at);
  }
}

TEST(KernelsTest, TargetHasAName) { EXPECT_GT(std::string(kernels::Target()).size(), 2u); }

}  // namespace
}  // namespace mxrec
