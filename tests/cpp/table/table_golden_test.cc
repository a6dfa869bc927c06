// The bits of trained tables, as constants: the same with every instruction set, on every
// architecture, by every compiler. A change here changes what training gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <ios>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/checksum.h"
#include "kernels/instruction_sets.h"
#include "mxrec/options.h"
#include "mxrec/table.h"
#include "mxrec/table_types.h"

namespace mxrec {
namespace {

struct Case {
  OptimizerKind optimizer;
  InitializerKind initializer;
  ValueType value_type;
  uint64_t trained;  // XXH3 of all rows in the order of their keys
  uint64_t pooled;   // and of sums of them
};

constexpr Case kCases[] = {
    {OptimizerKind::kSgd, InitializerKind::kUniform, ValueType::kFloat32, 0x4d3688fb48e89992,
     0x73180c06a4be6904},
    {OptimizerKind::kMomentum, InitializerKind::kNormal, ValueType::kFloat32, 0xe6e1973076836d67,
     0x57c3fec401bb4ecb},
    {OptimizerKind::kAdagrad, InitializerKind::kTruncatedNormal, ValueType::kFloat32,
     0xf865a40271b76a90, 0xde29f9ce449f4ebd},
    {OptimizerKind::kFtrl, InitializerKind::kVarianceScaling, ValueType::kFloat32,
     0xf48b6f6f90d3ceaf, 0xbe405a5775b52ef3},
    {OptimizerKind::kLazyAdam, InitializerKind::kNormal, ValueType::kFloat32, 0x50959c01af032107,
     0xefaec1a2b5cbb6bf},
    {OptimizerKind::kAdagrad, InitializerKind::kNormal, ValueType::kFloat16, 0xd56362fbd38f5984,
     0x55f9c08b609f1ff2},
    {OptimizerKind::kLazyAdam, InitializerKind::kUniform, ValueType::kBfloat16, 0x8c1c3a702fa5fe3e,
     0x1ab7719095c912cd},
};

constexpr int kDim = 19;  // whole vectors, and some columns more
constexpr size_t kBatch = 3000;

TableOptions Options(const Case& c) {
  TableOptions options;
  options.name = "golden";
  options.dim = kDim;
  options.seed = 2024;
  options.num_shards = 8;
  options.initializer.kind = c.initializer;
  options.optimizer.kind = c.optimizer;
  if (c.optimizer == OptimizerKind::kMomentum) options.optimizer.momentum = 0.9f;
  if (c.optimizer == OptimizerKind::kFtrl) options.optimizer.l1_regularization = 0.001f;
  options.value_type = c.value_type;
  options.stochastic_rounding = c.value_type != ValueType::kFloat32;
  return options;
}

// Draws nothing from the library's distributions, which differ between libraries.
class Data {
 public:
  std::vector<int64_t> Keys() {
    std::vector<int64_t> keys(kBatch);
    for (int64_t& key : keys) key = static_cast<int64_t>(random_() % 2000 * 0x9e3779b97f4a7c15ull);
    return keys;
  }
  std::vector<float> Floats(size_t n) {
    std::vector<float> values(n);
    for (float& v : values) {
      v = static_cast<float>(static_cast<int>(random_() % 20001) - 10000) / 7919.0f;
    }
    return values;
  }

 private:
  std::mt19937_64 random_{7};
};

void Train(Table* table, Data* data) {
  ApplyResult result;
  for (int step = 0; step < 6; ++step) {
    const std::vector<int64_t> keys = data->Keys();
    std::vector<float> out(kBatch * kDim);
    ASSERT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
    if (step % 2 == 0) {
      const std::vector<float> grads = data->Floats(kBatch * kDim);
      ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), std::nullopt, &result).ok());
      continue;
    }
    UniqueKeys unique;
    ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
    const std::vector<float> grads = data->Floats(unique.size() * kDim);
    ASSERT_TRUE(table
                    ->ApplyToAddresses(unique.addresses, grads.data(), std::nullopt,
                                       StaleAddress::kReject, &result)
                    .ok());
  }
}

uint64_t ChecksumOfRows(const Table& table) {
  std::map<int64_t, std::vector<float>> rows;
  const auto width = static_cast<size_t>(table.row_floats());
  ScanCursor cursor;
  RowBlock block;
  do {
    EXPECT_TRUE(table.Scan(&cursor, 1000, &block).ok());
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = &block.values[i * width];
      rows[block.keys[i]].assign(row, row + width);
    }
  } while (block.size() > 0);
  std::string bytes;
  const auto append = [&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  for (const auto& [key, row] : rows) {
    append(&key, sizeof(key));
    append(row.data(), width * sizeof(float));
  }
  return checkpoint::Checksum(bytes.data(), bytes.size());
}

// Of a pooled lookup with weights, whose bags are of one to seven keys.
uint64_t ChecksumOfSums(const Table& table, Data* data) {
  const std::vector<int64_t> keys = data->Keys();
  const std::vector<float> weights = data->Floats(kBatch);
  std::vector<int64_t> offsets = {0};
  while (offsets.back() < static_cast<int64_t>(kBatch)) {
    const auto size = 1 + static_cast<int64_t>(offsets.size() % 7);
    offsets.push_back(std::min<int64_t>(offsets.back() + size, kBatch));
  }
  const Bags bags{offsets, weights.data(), Combiner::kSqrtN};
  std::vector<float> out(bags.size() * kDim);
  EXPECT_TRUE(table.LookupPooled(keys, bags, nullptr, out.data()).ok());
  return checkpoint::Checksum(out.data(), out.size() * sizeof(float));
}

TEST(TableGoldenTest, TrainedTablesHaveTheseBits) {
  testing::ForEachInstructionSet([] {
    for (const Case& c : kCases) {
      const auto table = Table::Create(Options(c)).value();
      SCOPED_TRACE(std::string(OptimizerName(c.optimizer)) + ", " + ValueTypeName(c.value_type));
      Data data;
      ASSERT_NO_FATAL_FAILURE(Train(table.get(), &data));
      const uint64_t trained = ChecksumOfRows(*table), pooled = ChecksumOfSums(*table, &data);
      EXPECT_EQ(trained, c.trained) << std::hex << "0x" << trained;
      EXPECT_EQ(pooled, c.pooled) << std::hex << "0x" << pooled;
    }
  });
}

}  // namespace
}  // namespace mxrec
