// Addresses of rows whose slabs have given their memory back.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "mxrec/table.h"

namespace mxrec {
namespace {

constexpr int kDim = 16;
constexpr int64_t kRows = 100000;

std::shared_ptr<Table> Make() {
  TableOptions options;
  options.name = "t";
  options.dim = kDim;
  options.num_shards = 4;
  options.initializer.kind = InitializerKind::kZeros;
  options.optimizer.kind = OptimizerKind::kSgd;
  return Table::Create(options).value();
}

UniqueKeys Resolve(Table* table, int64_t begin, int64_t end) {
  std::vector<int64_t> keys(static_cast<size_t>(end - begin));
  std::iota(keys.begin(), keys.end(), begin);
  UniqueKeys unique;
  EXPECT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
  return unique;
}

TEST(TableReleaseTest, AddressesOfReleasedRowsAreStaleForEver) {
  auto table = Make();
  const int64_t full = table->Stats().bytes_rows;
  const UniqueKeys old = Resolve(table.get(), 0, kRows);
  ASSERT_EQ(table->Erase(old.keys).value(), kRows);
  // One batch later the keys are still known: gradients follow a key that came back.
  const UniqueKeys back = Resolve(table.get(), 0, 10);
  const std::vector<float> grads(old.size() * kDim, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(
      table->ApplyToAddresses(old.addresses, grads.data(), 1.0f, StaleAddress::kFallBack, &result)
          .ok());
  EXPECT_EQ(result.updated, 10);
  EXPECT_EQ(result.skipped, 1);  // all others are one "no row"
  Resolve(table.get(), 0, 10);
  Resolve(table.get(), 0, 10);
  EXPECT_LT(table->Stats().bytes_rows, full + (8 << 20));
  for (int round = 0; round < 3; ++round) {
    // Without memory, then with rows of other keys in the same slots.
    if (round == 1) Resolve(table.get(), kRows, 2 * kRows);
    if (round == 2) {
      OptimizerOptions same;
      same.kind = OptimizerKind::kSgd;
      same.learning_rate = 0.5f;
      ASSERT_TRUE(table->BindOptimizer(same).ok());
    }
    const int64_t last = old.addresses.back();
    EXPECT_EQ(table->ApplyToAddresses(std::vector<int64_t>{last}, grads.data(), 1.0f,
                                      StaleAddress::kReject, &result)
                      .message()
                      .find("its row in table 't' is gone") != std::string::npos,
              true);
    ASSERT_TRUE(
        table->ApplyToAddresses(old.addresses, grads.data(), 1.0f, StaleAddress::kFallBack, &result)
            .ok());
    EXPECT_EQ(result.updated, 0);
    std::vector<float> out(old.size() * kDim);
    ASSERT_TRUE(table->ReadRows(old.addresses, old.keys, nullptr, out.data()).ok());
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], i / kDim < 10 ? -1.0f : 0.0f) << i;
    }
  }
  EXPECT_EQ(table->size(), kRows + 10);
}

TEST(TableReleaseTest, AnOptimizerMayComeAfterSlabsWereReleased) {
  TableOptions options;
  options.name = "t";
  options.dim = kDim;
  options.num_shards = 2;
  auto table = Table::Create(options).value();
  const UniqueKeys old = Resolve(table.get(), 0, kRows);
  ASSERT_TRUE(table->Erase(old.keys).ok());
  for (int batch = 0; batch < 3; ++batch) Resolve(table.get(), -20, 0);
  OptimizerOptions adam;
  adam.kind = OptimizerKind::kLazyAdam;
  ASSERT_TRUE(table->BindOptimizer(adam).ok());
  const UniqueKeys fresh = Resolve(table.get(), 0, kRows);
  const std::vector<float> grads(old.size() * kDim, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(
      table->ApplyToAddresses(fresh.addresses, grads.data(), 0.1f, StaleAddress::kReject, &result)
          .ok());
  EXPECT_EQ(result.updated, kRows);
  ASSERT_TRUE(
      table->ApplyToAddresses(old.addresses, grads.data(), 0.1f, StaleAddress::kFallBack, &result)
          .ok());
  EXPECT_EQ(result.updated, 0);
}

}  // namespace
}  // namespace mxrec
