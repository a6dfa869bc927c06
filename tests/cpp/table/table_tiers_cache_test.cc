// Which rows the memory tier keeps, against a cache that knows how often every key is used; and how
// many rows one read of the disk brings.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <random>
#include <unordered_set>
#include <vector>

#include "index/key_hash.h"
#include "mxrec/table.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

TableOptions Options(int64_t memory_rows, int64_t capacity) {
  TableOptions options;
  options.name = "cache";
  options.dim = 32;
  options.memory_rows = capacity;
  options.optimizer.kind = OptimizerKind::kLazyAdam;  // 384 bytes a row
  return testing::Tiered(options, memory_rows);
}

void Train(Table* table, const std::vector<int64_t>& keys, int64_t time) {
  UniqueKeys unique;
  const std::vector<int64_t> now = {time};
  ASSERT_TRUE(
      table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique, {.timestamps = now}).ok());
  const std::vector<float> grads(unique.size() * 32, 0.01f);
  ApplyResult result;
  ASSERT_TRUE(table
                  ->ApplyToAddresses(unique.addresses, grads.data(), std::nullopt,
                                     StaleAddress::kReject, &result)
                  .ok());
}

// Ranks 0, 1, … of probability ~ 1 / (rank + 1)^1.05.
class Zipf {
 public:
  explicit Zipf(size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; ++i) {
      sum += std::pow(static_cast<double>(i + 1), -1.05);
      sums_.push_back(sum);
    }
  }
  size_t Draw(std::mt19937_64& random) const {
    const double at = std::uniform_real_distribution<>(0.0, sums_.back())(random);
    return static_cast<size_t>(std::ranges::upper_bound(sums_, at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

TEST(TableTiersCacheTest, MissesAreCloseToThoseOfAnIdealFrequencyCache) {
  constexpr size_t kKeys = 200'000, kMemory = 20'000, kBatch = 2048;
  const auto table = Table::Create(Options(kMemory, kKeys + 1000)).value();
  const auto key_of = [](size_t rank) {
    return static_cast<int64_t>(HashKey(static_cast<int64_t>(rank)));
  };
  std::vector<int64_t> keys;
  for (size_t rank = 0; rank < kKeys; ++rank) {
    keys.push_back(key_of(rank));
    if (keys.size() < kBatch && rank + 1 < kKeys) continue;
    Train(table.get(), keys, 1);
    keys.clear();
  }
  const Zipf zipf(kKeys);
  std::mt19937_64 random(7);
  int64_t ideal = 0, before = 0, distinct = 0;
  constexpr int kWarmUp = 300, kMeasured = 200;
  for (int batch = 0; batch < kWarmUp + kMeasured; ++batch) {
    if (batch == kWarmUp) before = table->Stats().tiers->promoted;
    std::unordered_set<size_t> ranks;
    keys.clear();
    for (size_t i = 0; i < kBatch; ++i) {
      const size_t rank = zipf.Draw(random);
      keys.push_back(key_of(rank));
      ranks.insert(rank);
    }
    Train(table.get(), keys, 2 + batch);
    if (batch < kWarmUp) continue;
    // The most popular keys are in memory.
    ideal += std::ranges::count_if(ranks, [&](size_t rank) { return rank >= kMemory; });
    distinct += static_cast<int64_t>(ranks.size());
  }
  const int64_t missed = table->Stats().tiers->promoted - before;
  const double ratio = static_cast<double>(missed) / static_cast<double>(ideal);
  std::cout << "distinct " << distinct << ", missed " << missed << ", ideal " << ideal << ", ratio "
            << ratio << std::endl;
  EXPECT_LE(ratio, 1.15);
}

// With a threshold of 0 no use is counted, and what was popular when counting ended need not be so.
TEST(TableTiersCacheTest, RowsInUseStayWhileCountsStandStill) {
  constexpr int64_t kKeys = 20'000, kHot = 1000, kMemory = 2000, kBatch = 512;
  TableOptions options = Options(kMemory, kKeys);
  options.admission.threshold = 1;
  const auto table = Table::Create(options).value();
  const auto range = [](int64_t begin, int64_t end) {
    std::vector<int64_t> keys;
    for (int64_t key = begin; key < end; ++key) keys.push_back(key);
    return keys;
  };
  int64_t time = 0;
  for (int64_t key = 0; key < kKeys - kBatch; key += kBatch) {
    Train(table.get(), range(key, key + kBatch), ++time);
  }
  for (int i = 0; i < 20; ++i) Train(table.get(), range(0, kMemory), ++time);
  ASSERT_TRUE(table->SetThreshold(0).ok());
  std::mt19937_64 random(7);
  int64_t before = 0, cold = 0;
  constexpr int kWarmUp = 100, kMeasured = 100;
  for (int batch = 0; batch < kWarmUp + kMeasured; ++batch) {
    if (batch == kWarmUp) before = table->Stats().tiers->promoted;
    std::vector<int64_t> keys = range(10'000, 10'000 + kHot);  // not those of before
    for (int i = 0; i < 100; ++i) keys.push_back(static_cast<int64_t>(random() % 10'000));
    Train(table.get(), keys, ++time);
    if (batch >= kWarmUp) cold += 100;
  }
  // What is used in each batch is there; of the others memory has a few.
  EXPECT_LE(table->Stats().tiers->promoted - before, cold * 11 / 10);
}

TEST(TableTiersCacheTest, RowsThatWereUsedTogetherAreReadTogether) {
  constexpr int64_t kCohorts = 20, kCohort = 4000, kBatch = 2048;
  const auto table = Table::Create(Options(8000, kCohorts * kCohort + 1000)).value();
  std::mt19937_64 random(7);
  TierStats before;
  for (int64_t day = 0; day < 3 * kCohorts; ++day) {
    if (day == kCohorts) before = table->Stats().tiers.value();
    for (int64_t batch = 0; batch < 8; ++batch) {
      std::vector<int64_t> keys(kBatch);
      for (int64_t& key : keys) {
        const int64_t n = day % kCohorts * kCohort + static_cast<int64_t>(random() % kCohort);
        key = static_cast<int64_t>(HashKey(n));
      }
      Train(table.get(), keys, day * 86'400 + batch * 60);
    }
  }
  const TierStats after = table->Stats().tiers.value();
  const auto rows = static_cast<double>(after.promoted - before.promoted);
  const auto blocks = static_cast<double>((after.bytes_read - before.bytes_read) / 4096);
  std::cout << "rows " << rows << ", blocks " << blocks << ", rows per block " << rows / blocks
            << std::endl;
  ASSERT_GT(blocks, 0);
  EXPECT_GE(rows / blocks, 1.5);
}

}  // namespace
}  // namespace mxrec
