// Table's pooled calls against its plain ones.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

using testing::TestSeed;

std::shared_ptr<Table> Make(int dim, OptimizerKind kind = OptimizerKind::kAdagrad,
                            ValueType type = ValueType::kFloat32) {
  TableOptions options;
  options.name = "t";
  options.dim = dim;
  options.initializer.kind = InitializerKind::kNormal;
  options.optimizer.kind = kind;
  options.seed = 3;
  options.value_type = type;
  return Table::Create(options).value();
}

struct Batch {
  std::vector<int64_t> keys, offsets;
  std::vector<float> weights;
};

Batch MakeBatch(uint64_t seed, size_t n, size_t bags, int64_t key_range) {
  std::mt19937_64 random(TestSeed() + seed);
  std::uniform_real_distribution<float> weight(-1.0f, 1.0f);
  Batch b;
  for (size_t i = 0; i < n; ++i) {
    b.keys.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(key_range)) - 5);
    b.weights.push_back(weight(random));
  }
  for (size_t i = 0; i + 1 < bags; ++i) {
    b.offsets.push_back(static_cast<int64_t>(random() % (n + 1)));
  }
  b.offsets.push_back(0);
  b.offsets.push_back(static_cast<int64_t>(n));
  std::sort(b.offsets.begin(), b.offsets.end());
  return b;
}

std::vector<int32_t> Iota(size_t n) {
  std::vector<int32_t> inverse(n);
  for (size_t i = 0; i < n; ++i) inverse[i] = static_cast<int32_t>(i);
  return inverse;
}

// From one row per key.
std::vector<float> PoolOf(const std::vector<float>& rows, const Bags& bags, int dim) {
  std::vector<float> out(bags.size() * dim);
  kernels::PoolRows(rows.data(), Iota(bags.occurrences()).data(), bags, dim, out.data());
  return out;
}

class TablePooledTest
    : public ::testing::TestWithParam<std::tuple<int, Combiner, bool, ValueType>> {};

TEST_P(TablePooledTest, EqualsThePoolOfTheRows) {
  MXREC_TRACE_SEED();
  const auto [dim, combiner, weighted, type] = GetParam();
  auto pooled = Make(dim, OptimizerKind::kAdagrad, type);
  auto plain = Make(dim, OptimizerKind::kAdagrad, type);
  const int threads_before = NumThreads();
  for (const int threads : {1, 3}) {
    ASSERT_TRUE(SetNumThreads(threads).ok());
    for (const size_t n : {size_t{0}, size_t{1}, size_t{33}, size_t{6000}}) {
      const Batch b = MakeBatch(n + static_cast<size_t>(dim), n, 1 + n / 7, 9000);
      const Bags bags{.offsets = b.offsets,
                      .weights = weighted ? b.weights.data() : nullptr,
                      .combiner = combiner};
      std::vector<float> rows(n * dim), out(bags.size() * dim, 7.0f);
      const std::vector<float> absent(dim, 0.25f);
      ASSERT_TRUE(plain->Lookup(b.keys, absent.data(), rows.data()).ok());
      ASSERT_TRUE(pooled->LookupPooled(b.keys, bags, absent.data(), out.data()).ok());
      EXPECT_EQ(out, PoolOf(rows, bags, dim));
      ASSERT_TRUE(plain->LookupOrInsert(b.keys, rows.data()).ok());
      ASSERT_TRUE(pooled->LookupOrInsertPooled(b.keys, bags, out.data()).ok());
      EXPECT_EQ(out, PoolOf(rows, bags, dim));
      const std::vector<int32_t> narrow(b.keys.begin(), b.keys.end());
      ASSERT_TRUE(pooled->LookupOrInsertPooled(narrow, bags, out.data()).ok());
      EXPECT_EQ(out, PoolOf(rows, bags, dim));
      ASSERT_TRUE(plain->LookupOrInsert(b.keys, rows.data()).ok());
      std::fill(out.begin(), out.end(), 7.0f);
      ASSERT_TRUE(pooled->LookupPooled(narrow, bags, nullptr, out.data()).ok());
      ASSERT_TRUE(plain->Lookup(b.keys, nullptr, rows.data()).ok());
      EXPECT_EQ(out, PoolOf(rows, bags, dim));
      std::fill(out.begin(), out.end(), 7.0f);
      ASSERT_TRUE(pooled->LookupPooled(b.keys, bags, nullptr, out.data()).ok());
      EXPECT_EQ(out, PoolOf(rows, bags, dim));
      EXPECT_EQ(pooled->size(), plain->size());
      ASSERT_TRUE(plain->Lookup(b.keys, nullptr, rows.data()).ok());
      EXPECT_EQ(pooled->Stats().hits, plain->Stats().hits);
      EXPECT_EQ(pooled->Stats().misses, plain->Stats().misses);
    }
  }
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, TablePooledTest,
    ::testing::Combine(::testing::Values(1, 7, 16, 65, 300),
                       ::testing::Values(Combiner::kSum, Combiner::kMean, Combiner::kSqrtN),
                       ::testing::Bool(),
                       ::testing::Values(ValueType::kFloat32, ValueType::kFloat16,
                                         ValueType::kBfloat16)));

TEST(TablePooledGradients, EqualApplyingTheGradientOfEachKey) {
  MXREC_TRACE_SEED();
  constexpr int kDim = 5;
  auto pooled = Make(kDim), plain = Make(kDim);
  for (uint64_t step = 0; step < 4; ++step) {
    const Batch b = MakeBatch(step, 500, 60, 100);
    const Bags bags{
        .offsets = b.offsets, .weights = b.weights.data(), .combiner = Combiner::kSqrtN};
    std::vector<float> out(bags.size() * kDim), rows(b.keys.size() * kDim);
    ASSERT_TRUE(pooled->LookupOrInsertPooled(b.keys, bags, out.data()).ok());
    ASSERT_TRUE(plain->LookupOrInsert(b.keys, rows.data()).ok());
    // Loss: half the sum of squares, so that the gradient is what was looked up.
    std::vector<float> each(rows.size());
    kernels::PooledSegmentSum(out.data(), Iota(b.keys.size()).data(), bags, b.keys.size(), kDim,
                              each.data());
    ApplyResult with, without;
    ASSERT_TRUE(pooled->ApplyPooledGradients(b.keys, bags, out.data(), {}, &with).ok());
    ASSERT_TRUE(plain->ApplyGradients(b.keys, each.data(), {}, &without).ok());
    EXPECT_EQ(with.updated, without.updated);
    std::vector<float> after(rows.size());
    ASSERT_TRUE(plain->Lookup(b.keys, nullptr, rows.data()).ok());
    ASSERT_TRUE(pooled->Lookup(b.keys, nullptr, after.data()).ok());
    EXPECT_EQ(after, rows);
  }
  EXPECT_EQ(pooled->optimizer_step(), 4);
}

TEST(TablePooledErrors, LeaveTheTableAsItWas) {
  auto table = Make(2);
  const std::vector<int64_t> keys = {1, 2}, bad = {0, 1}, good = {0, 2};
  float out[2] = {};
  ApplyResult result;
  const Bags wrong{.offsets = bad}, right{.offsets = good};
  EXPECT_EQ(table->LookupPooled(keys, wrong, nullptr, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(table->LookupOrInsertPooled(keys, wrong, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(table->size(), 0);
  ASSERT_TRUE(table->LookupOrInsertPooled(keys, right, out).ok());
  const uint64_t version = table->version();
  const float nan[2] = {1.0f, std::numeric_limits<float>::quiet_NaN()}, ones[2] = {1.0f, 1.0f};
  EXPECT_EQ(table->ApplyPooledGradients(keys, wrong, ones, {}, &result).code(),
            StatusCode::kInvalidArgument);
  const Status grads = table->ApplyPooledGradients(keys, right, nan, {}, &result);
  EXPECT_NE(grads.message().find("grads is NaN or infinite at element 1"), std::string::npos);
  const Bags weighted{.offsets = good, .weights = nan};
  const Status weights = table->ApplyPooledGradients(keys, weighted, ones, {}, &result);
  EXPECT_NE(weights.message().find("weights is NaN"), std::string::npos);
  EXPECT_EQ(table->version(), version);
  table->Close();
  EXPECT_EQ(table->LookupPooled(keys, right, nullptr, out).code(), StatusCode::kFailedPrecondition);
}

// Rows hold one value in all columns, so that a torn read would show.
TEST(TablePooledThreads, ReadersMeetWritersOnWholeRows) {
  auto table = Make(8, OptimizerKind::kSgd);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t step = 0; step < 60; ++step) {
      const Batch b = MakeBatch(step, 3000, 10, 2000);
      std::vector<float> values(b.keys.size() * 8);
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>((step + b.keys[i / 8]) % 13);
      }
      EXPECT_TRUE(table->Assign(b.keys, values.data()).ok());
      EXPECT_TRUE(table->Erase(std::span(b.keys).first(500)).ok());
    }
    stop = true;
  });
  for (uint64_t round = 0; !stop || round < 5; ++round) {
    const Batch b = MakeBatch(1000 + round, 4000, 300, 2000);
    const Bags bags{.offsets = b.offsets};
    std::vector<float> out(bags.size() * 8);
    ASSERT_TRUE(table->LookupPooled(b.keys, bags, nullptr, out.data()).ok());
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], out[i / 8 * 8]);
  }
  writer.join();
}

}  // namespace
}  // namespace mxrec
