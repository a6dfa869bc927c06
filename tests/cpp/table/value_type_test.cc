// Tables that store embeddings in 16 bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/half_bits.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

using testing::TestSeed;

constexpr ValueType kHalfTypes[] = {ValueType::kFloat16, ValueType::kBfloat16};

TableOptions Options(ValueType type, bool stochastic, int dim, OptimizerKind kind,
                     int num_shards = 8) {
  TableOptions options;
  options.name = "t";
  options.dim = dim;
  options.num_shards = num_shards;
  options.seed = 99;
  options.value_type = type;
  options.stochastic_rounding = stochastic;
  options.optimizer.kind = kind;
  options.initializer.kind = InitializerKind::kUniform;
  return options;
}

std::shared_ptr<Table> Make(const TableOptions& options) { return Table::Create(options).value(); }

using Rows = std::map<int64_t, std::vector<float>>;

Rows RowsOf(const Table& table) {
  Rows rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1000, &block).ok());
    if (block.size() == 0) return rows;
    for (size_t i = 0; i < block.size(); ++i) {
      rows[block.keys[i]].assign(&block.values[i * width], &block.values[i * width] + width);
    }
  }
}

// Three rounds of inserting, updating by key and by address, in an order of its own.
Rows Trained(const TableOptions& options, int threads, uint64_t order) {
  WorkerPool& pool = WorkerPool::Get();
  const int before = pool.num_threads();
  pool.SetNumThreads(threads);
  const auto table = Make(options);
  const auto dim = static_cast<size_t>(options.dim);
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> normal;
  for (int round = 0; round < 3; ++round) {
    std::vector<int64_t> keys(3000 + 1000 * round);
    for (int64_t& key : keys) key = static_cast<int64_t>(random() % 5000);
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    std::vector<float> grads(keys.size() * dim);
    for (float& g : grads) g = normal(random);
    // The same gradients by key, the keys in another order.
    std::vector<size_t> at(keys.size());
    std::iota(at.begin(), at.end(), size_t{0});
    if (order != 0) std::shuffle(at.begin(), at.end(), std::mt19937_64(order + round));
    std::vector<int64_t> batch;
    std::vector<float> batch_grads;
    for (const size_t i : at) {
      batch.push_back(keys[i]);
      batch_grads.insert(batch_grads.end(), &grads[i * dim], &grads[i * dim] + dim);
    }
    UniqueKeys unique;
    EXPECT_TRUE(table->Resolve(batch, ResolveMode::kInsert, nullptr, &unique).ok());
    EXPECT_EQ(unique.keys, batch);
    ApplyResult result;
    EXPECT_TRUE(table->ApplyGradients(batch, batch_grads.data(), 0.01f, &result).ok());
    EXPECT_TRUE(table
                    ->ApplyToAddresses(unique.addresses, batch_grads.data(), 0.02f,
                                       StaleAddress::kReject, &result)
                    .ok());
  }
  pool.SetNumThreads(before);
  return RowsOf(*table);
}

TEST(ValueTypeTest, RowsDoNotDependOnThreadsShardsOrOrder) {
  MXREC_TRACE_SEED();
  for (const ValueType type : kHalfTypes) {
    for (const bool stochastic : {false, true}) {
      for (const int dim : {1, 5, 16}) {
        for (const OptimizerKind kind :
             {OptimizerKind::kSgd, OptimizerKind::kAdagrad, OptimizerKind::kLazyAdam}) {
          SCOPED_TRACE(std::string(ValueTypeName(type)) + OptimizerName(kind) +
                       std::to_string(dim));
          const Rows rows = Trained(Options(type, stochastic, dim, kind, 1), 1, 0);
          EXPECT_EQ(Trained(Options(type, stochastic, dim, kind, 1), 3, 0), rows);
          EXPECT_EQ(Trained(Options(type, stochastic, dim, kind, 32), 2, 11), rows);
        }
      }
    }
  }
}

TEST(ValueTypeTest, StochasticRoundingDependsOnTheSeed) {
  TableOptions options = Options(ValueType::kBfloat16, true, 8, OptimizerKind::kSgd);
  options.initializer.kind = InitializerKind::kOnes;
  const Rows rows = Trained(options, 1, 0);
  options.seed = 100;
  EXPECT_NE(Trained(options, 1, 0), rows);
}

// Steps far below the distance of neighbours: to nearest, nothing would ever move.
TEST(ValueTypeTest, StochasticRoundingKeepsTheMeanOfSmallSteps) {
  for (const ValueType type : kHalfTypes) {
    constexpr int kRows = 4000, kSteps = 64;
    constexpr float kRate = 1e-5f;
    for (const bool stochastic : {false, true}) {
      TableOptions options = Options(type, stochastic, 4, OptimizerKind::kSgd);
      options.initializer.kind = InitializerKind::kOnes;
      const auto table = Make(options);
      std::vector<int64_t> keys(kRows);
      std::iota(keys.begin(), keys.end(), int64_t{0});
      std::vector<float> out(kRows * 4), grads(kRows * 4, -1.0f);
      ASSERT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
      ApplyResult result;
      for (int step = 0; step < kSteps; ++step) {
        ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), kRate, &result).ok());
      }
      ASSERT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
      const double mean = std::accumulate(out.begin(), out.end(), 0.0) / out.size();
      if (!stochastic) {
        EXPECT_EQ(mean, 1.0);
        continue;
      }
      // Each value is 1 plus a sum of kSteps draws of 0 or `gap`, each of mean kRate.
      const double gap = type == ValueType::kFloat16 ? 0x1p-10 : 0x1p-7;
      const double deviation = std::sqrt(kSteps * kRate * gap / out.size());
      EXPECT_NEAR(mean, 1.0 + kSteps * static_cast<double>(kRate), 6 * deviation)
          << ValueTypeName(type);
    }
  }
}

TEST(ValueTypeTest, LargeValuesSaturate) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const ValueType type : kHalfTypes) {
    const auto table = Make(Options(type, false, 3, OptimizerKind::kSgd));
    const std::vector<int64_t> keys = {1};
    const float values[] = {infinity, -std::numeric_limits<float>::max(), 1e-8f};
    ASSERT_TRUE(table->Assign(keys, values).ok());
    float out[3];
    ASSERT_TRUE(table->Lookup(keys, nullptr, out).ok());
    const float largest = type == ValueType::kFloat16 ? 65504.0f : 0x1.fep127f;
    EXPECT_EQ(out[0], largest);
    EXPECT_EQ(out[1], -largest);
    EXPECT_EQ(out[2] == 0.0f, type == ValueType::kFloat16);
    // An update that leaves the range does, too.
    const float grads[] = {-1e38f, 1e38f, 0.0f};
    ApplyResult result;
    ASSERT_TRUE(table->ApplyGradients(keys, grads, 10.0f, &result).ok());
    ASSERT_TRUE(table->Lookup(keys, nullptr, out).ok());
    EXPECT_EQ(out[0], largest);
    EXPECT_EQ(out[1], -largest);
  }
}

TEST(ValueTypeTest, RowsOfSixteenBitsTakeHalfTheMemory) {
  constexpr size_t kRows = 50'000;
  constexpr double kTolerance = double{1 << 21} / kRows + 1;  // a huge page
  const auto bytes = [](ValueType type, bool stochastic, OptimizerKind kind) {
    const auto table = Make(Options(type, stochastic, 64, kind, 1));
    std::vector<int64_t> keys(kRows);
    std::iota(keys.begin(), keys.end(), int64_t{0});
    std::vector<float> out(keys.size() * 64);
    EXPECT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
    return static_cast<double>(table->Stats().bytes_rows) / static_cast<double>(keys.size());
  };
  const double full = bytes(ValueType::kFloat32, false, OptimizerKind::kSgd);
  const double with_slot = bytes(ValueType::kFloat32, false, OptimizerKind::kAdagrad);
  for (const ValueType type : kHalfTypes) {
    EXPECT_NEAR(bytes(type, false, OptimizerKind::kSgd), full / 2, kTolerance);
    EXPECT_NEAR(bytes(type, true, OptimizerKind::kSgd), full / 2 + 16, kTolerance);
    EXPECT_NEAR(bytes(type, false, OptimizerKind::kAdagrad), with_slot * 0.75, kTolerance);
  }
}

TEST(ValueTypeTest, BindingAnOptimizerKeepsEmbeddingsAndTheirRounding) {
  for (const ValueType type : kHalfTypes) {
    for (const int dim : {1, 3, 8}) {
      std::vector<int64_t> keys(500);
      std::iota(keys.begin(), keys.end(), int64_t{-250});
      std::vector<float> first(keys.size() * dim), grads(keys.size() * dim, 0.37f);
      Rows rows[2];
      for (const bool late : {false, true}) {
        TableOptions options = Options(type, true, dim, OptimizerKind::kAdagrad);
        if (late) options.optimizer = {};
        const auto table = Make(options);
        ASSERT_TRUE(table->LookupOrInsert(keys, first.data()).ok());
        const int64_t gone = 7;
        ASSERT_TRUE(table->Erase(std::vector<int64_t>{gone}).ok());
        if (late) {
          OptimizerOptions adagrad;
          adagrad.kind = OptimizerKind::kAdagrad;
          ASSERT_TRUE(table->BindOptimizer(adagrad).ok());
        }
        ApplyResult result;
        ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), 0.01f, &result).ok());
        EXPECT_EQ(result.updated, 499);
        rows[late] = RowsOf(*table);
      }
      EXPECT_EQ(rows[0], rows[1]);
    }
  }
}

TEST(ValueTypeTest, AbsentKeysReadTheGivenRowUnrounded) {
  const auto table = Make(Options(ValueType::kBfloat16, false, 2, OptimizerKind::kNone));
  const float absent[] = {0.1f, 1e-30f};
  float out[2];
  ASSERT_TRUE(table->Lookup(std::vector<int64_t>{4}, absent, out).ok());
  EXPECT_EQ(out[0], absent[0]);
  EXPECT_EQ(out[1], absent[1]);
}

TEST(ValueTypeTest, OptionsAreChecked) {
  TableOptions options = Options(ValueType::kFloat32, true, 2, OptimizerKind::kNone);
  Status status = Validate(options);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("stochastic_rounding"), std::string::npos);
  options.value_type = static_cast<ValueType>(3);
  status = Validate(options);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("value_type is 3"), std::string::npos);
}

}  // namespace
}  // namespace mxrec
