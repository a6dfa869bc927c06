// Pooled kernels against the scalar reference, bit for bit, on every instruction set this machine
// has and any number of threads; gradients against differences.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/instruction_sets.h"
#include "mxrec/runtime.h"
#include "optimizers/random_seed.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

using testing::TestSeed;

constexpr Combiner kCombiners[] = {Combiner::kSum, Combiner::kMean, Combiner::kSqrtN};

struct Batch {
  size_t n, u, bags;
  int dim;
  std::vector<int64_t> offsets;
  std::vector<int32_t> inverse;
  std::vector<float> rows, grads, weights;

  Bags Of(Combiner combiner, bool weighted) const {
    return {
        .offsets = offsets, .weights = weighted ? weights.data() : nullptr, .combiner = combiner};
  }
};

// Bags of any size, empty ones included; some weights 0, some rows absent.
Batch MakeBatch(size_t n, size_t u, size_t bags, int dim) {
  std::mt19937_64 random(TestSeed() + n * 31 + u * 7 + bags * 3 + dim);
  std::normal_distribution<float> normal;
  Batch b{n, u, bags, dim, {}, {}, {}, {}, {}};
  for (size_t i = 0; i + 1 < bags; ++i)
    b.offsets.push_back(static_cast<int64_t>(random() % (n + 1)));
  b.offsets.push_back(0);
  if (bags > 0) b.offsets.push_back(static_cast<int64_t>(n));
  std::sort(b.offsets.begin(), b.offsets.end());
  const auto values = [&](size_t count) {
    std::vector<float> v(count);
    for (float& x : v) x = normal(random);
    return v;
  };
  b.rows = values(u * dim);
  b.grads = values(bags * dim);
  b.weights = values(n);
  for (size_t i = 0; i < n; ++i) {
    b.inverse.push_back(random() % 20 == 0 ? -1 : static_cast<int32_t>(random() % u));
    if (random() % 10 == 0) b.weights[i] = 0.0f;
  }
  return b;
}

double DivisorOf(const Bags& bags, size_t b) {
  double sum = 0, squares = 0;
  for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
    const double w = bags.weights == nullptr ? 1.0 : static_cast<double>(bags.weights[i]);
    sum += w;
    squares += w * w;
  }
  if (bags.combiner == Combiner::kMean) return sum;
  return bags.combiner == Combiner::kSqrtN ? std::sqrt(squares) : 1.0;
}

std::vector<float> ReferencePool(const Batch& batch, const Bags& bags) {
  const int dim = batch.dim;
  std::vector<float> out(bags.size() * dim, 0.0f);
  for (size_t b = 0; b < bags.size(); ++b) {
    float* sum = &out[b * dim];
    for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
      const float w = bags.weights == nullptr ? 1.0f : bags.weights[i];
      for (int c = 0; c < dim; ++c) {
        const float x = batch.inverse[i] < 0 ? 0.0f : batch.rows[batch.inverse[i] * dim + c];
        sum[c] = sum[c] + w * x;
      }
    }
    const auto divisor = static_cast<float>(DivisorOf(bags, b));
    for (int c = 0; c < dim; ++c) sum[c] = divisor == 0.0f ? 0.0f : sum[c] / divisor;
  }
  return out;
}

std::vector<float> ReferenceSegmentSum(const Batch& batch, const Bags& bags) {
  const int dim = batch.dim;
  std::vector<float> out(batch.u * dim, 0.0f);
  for (size_t b = 0; b < bags.size(); ++b) {
    const auto divisor = static_cast<float>(DivisorOf(bags, b));
    for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
      if (batch.inverse[i] < 0) continue;
      const float w = bags.weights == nullptr ? 1.0f : bags.weights[i];
      const float coefficient = divisor == 0.0f ? 0.0f : w / divisor;
      float* sum = &out[batch.inverse[i] * dim];
      for (int c = 0; c < dim; ++c) sum[c] = sum[c] + coefficient * batch.grads[b * dim + c];
    }
  }
  return out;
}

float ReferenceDot(const float* a, const float* b, int dim) {
  float sums[16] = {};
  for (int c = 0; c < dim; ++c) sums[c % 16] = sums[c % 16] + a[c] * b[c];
  for (int half = 8; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sums[k] = sums[k] + sums[k + half];
  }
  return sums[0];
}

std::vector<float> ReferenceWeightGradients(const Batch& batch, const Bags& bags) {
  const int dim = batch.dim;
  const std::vector<float> zeros(dim, 0.0f);
  std::vector<float> out(batch.n, 0.0f);
  for (size_t b = 0; b < bags.size(); ++b) {
    const auto weight = [&](int64_t i) {
      return bags.weights == nullptr ? 1.0 : static_cast<double>(bags.weights[i]);
    };
    double weighted = 0.0;
    for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
      const float* row = batch.inverse[i] < 0 ? zeros.data() : &batch.rows[batch.inverse[i] * dim];
      out[i] = ReferenceDot(&batch.grads[b * dim], row, dim);
      weighted += weight(i) * static_cast<double>(out[i]);
    }
    if (bags.combiner == Combiner::kSum) continue;
    const double divisor = DivisorOf(bags, b);
    double squared = divisor * divisor;
    if (bags.combiner == Combiner::kSqrtN) {
      squared = 0.0;
      for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
        squared += weight(i) * weight(i);
      }
    }
    for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
      const double through = bags.combiner == Combiner::kMean ? divisor : weight(i);
      out[i] = static_cast<float>(divisor) == 0.0f
                   ? 0.0f
                   : static_cast<float>(
                         (static_cast<double>(out[i]) - weighted * through / squared) / divisor);
    }
  }
  return out;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void ExpectReference(const Batch& b) {
  for (const Combiner combiner : kCombiners) {
    for (const bool weighted : {false, true}) {
      SCOPED_TRACE("combiner " + std::to_string(static_cast<int>(combiner)) +
                   (weighted ? ", weighted, " : ", ") + std::to_string(b.n) + " in " +
                   std::to_string(b.bags) + " x " + std::to_string(b.dim));
      const Bags bags = b.Of(combiner, weighted);
      ASSERT_TRUE(Validate(bags, b.n).ok());
      std::vector<float> pooled(b.bags * b.dim, 9.0f);
      kernels::PoolRows(b.rows.data(), b.inverse.data(), bags, b.dim, pooled.data());
      EXPECT_TRUE(SameBits(pooled, ReferencePool(b, bags)));
      std::vector<float> sums(b.u * b.dim, 9.0f);
      kernels::PooledSegmentSum(b.grads.data(), b.inverse.data(), bags, b.u, b.dim, sums.data());
      EXPECT_TRUE(SameBits(sums, ReferenceSegmentSum(b, bags)));
      std::vector<float> gradients(b.n, 9.0f);
      kernels::PooledWeightGradients(b.rows.data(), b.inverse.data(), bags, b.grads.data(), b.dim,
                                     gradients.data());
      EXPECT_TRUE(SameBits(gradients, ReferenceWeightGradients(b, bags)));
    }
  }
}

TEST(PoolingTest, EveryInstructionSetEqualsTheReference) {
  MXREC_TRACE_SEED();
  testing::ForEachInstructionSet([] {
    for (const int dim : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100, 128, 130}) {
      ExpectReference(MakeBatch(200, 40, 37, dim));
    }
  });
}

TEST(PoolingTest, AnyNumberOfThreadsGivesTheSameBits) {
  MXREC_TRACE_SEED();
  WorkerPool& pool = WorkerPool::Get();
  const int threads_before = pool.num_threads();
  for (const int threads : {1, 2, 5}) {
    pool.SetNumThreads(threads);
    for (const int dim : {1, 17, 64}) {
      ExpectReference(MakeBatch(15000, 1000, 1200, dim));
      ExpectReference(MakeBatch(4000, 10, 15000, dim));
    }
    ExpectReference(MakeBatch(5, 3, 2, 8192));
  }
  pool.SetNumThreads(threads_before);
}

TEST(PoolingTest, EmptyBagsAndBatches) {
  ExpectReference(MakeBatch(0, 0, 0, 4));
  ExpectReference(MakeBatch(0, 0, 5, 4));
  ExpectReference(MakeBatch(0, 3, 1, 4));
  ExpectReference(MakeBatch(1, 1, 1, 1));
  ExpectReference(MakeBatch(100, 9, 1, 3));
}

// In double, so that only the formula of the gradient is judged, not its rounding.
TEST(PoolingTest, WeightGradientsAreThoseOfTheSum) {
  MXREC_TRACE_SEED();
  Batch b = MakeBatch(60, 9, 8, 5);
  for (float& w : b.weights) w = std::fabs(w) + 0.5f;
  for (const Combiner combiner : kCombiners) {
    const auto loss = [&](const std::vector<double>& weights) {
      double total = 0;
      for (size_t bag = 0; bag < b.bags; ++bag) {
        double sum = 0, squares = 0, product = 0;
        for (int64_t i = b.offsets[bag]; i < b.offsets[bag + 1]; ++i) {
          sum += weights[i];
          squares += weights[i] * weights[i];
          for (int c = 0; b.inverse[i] >= 0 && c < b.dim; ++c) {
            product += weights[i] * static_cast<double>(b.rows[b.inverse[i] * b.dim + c]) *
                       static_cast<double>(b.grads[bag * b.dim + c]);
          }
        }
        const double divisor = combiner == Combiner::kSum    ? 1.0
                               : combiner == Combiner::kMean ? sum
                                                             : std::sqrt(squares);
        if (divisor != 0) total += product / divisor;
      }
      return total;
    };
    std::vector<float> gradients(b.n);
    kernels::PooledWeightGradients(b.rows.data(), b.inverse.data(), b.Of(combiner, true),
                                   b.grads.data(), b.dim, gradients.data());
    const std::vector<double> weights(b.weights.begin(), b.weights.end());
    for (size_t i = 0; i < b.n; ++i) {
      std::vector<double> up = weights, down = weights;
      up[i] += 1e-5;
      down[i] -= 1e-5;
      EXPECT_NEAR(static_cast<double>(gradients[i]), (loss(up) - loss(down)) / 2e-5, 1e-4) << i;
    }
  }
}

TEST(PoolingTest, OnesWeighAsNoWeights) {
  MXREC_TRACE_SEED();
  Batch b = MakeBatch(3000, 50, 200, 19);
  std::fill(b.weights.begin(), b.weights.end(), 1.0f);
  for (const Combiner combiner : kCombiners) {
    std::vector<float> with(b.bags * b.dim), without(b.bags * b.dim);
    kernels::PoolRows(b.rows.data(), b.inverse.data(), b.Of(combiner, true), b.dim, with.data());
    kernels::PoolRows(b.rows.data(), b.inverse.data(), b.Of(combiner, false), b.dim,
                      without.data());
    EXPECT_TRUE(SameBits(with, without));
  }
}

TEST(PoolingTest, OffsetsAreChecked) {
  const auto message = [](const std::vector<int64_t>& offsets, size_t n) {
    return Validate(Bags{.offsets = offsets}, n).message();
  };
  EXPECT_TRUE(Validate(Bags{.offsets = std::vector<int64_t>{0, 0, 2, 2}}, 2).ok());
  EXPECT_NE(message({}, 0).find("offsets is empty"), std::string::npos);
  EXPECT_NE(message({0, 3}, 4).find("goes from 0 to 3; it must go from 0 to 4"), std::string::npos);
  EXPECT_NE(message({1, 4}, 4).find("goes from 1 to 4"), std::string::npos);
  EXPECT_NE(message({0, 3, 2, 4}, 4).find("offsets[2] is 2 after 3"), std::string::npos);
  EXPECT_NE(message({0, -1, 4}, 4).find("offsets[1] is -1"), std::string::npos);
}

TEST(PoolingTest, CombinersHaveNames) {
  EXPECT_EQ(CombinerFromName("sum"), Combiner::kSum);
  EXPECT_EQ(CombinerFromName("mean"), Combiner::kMean);
  EXPECT_EQ(CombinerFromName("sqrtn"), Combiner::kSqrtN);
  EXPECT_EQ(CombinerFromName("max"), std::nullopt);
}

}  // namespace
}  // namespace mxrec
