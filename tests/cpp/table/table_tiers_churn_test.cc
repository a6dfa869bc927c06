// Rows come, are trained and go without end: neither the disks nor memory fill up.
// MXREC_TEST_CHURN_SECONDS: how long.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <vector>

#include "index/key_hash.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

int64_t ResidentBytes() {
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(TableTiersChurnTest, SpaceAndMemoryStayBounded) {
  MXREC_TRACE_SEED();
  const char* text = std::getenv("MXREC_TEST_CHURN_SECONDS");
  const double seconds = text == nullptr ? 3.0 : std::strtod(text, nullptr);
  constexpr int kDim = 64;
  constexpr size_t kBatch = 1024;
  TableOptions options;
  options.name = "churn";
  options.dim = kDim;
  options.optimizer.kind = OptimizerKind::kSgd;
  options.eviction.max_age = 200;
  options.memory_rows = 150'000;
  const auto table = Table::Create(testing::Tiered(options, 4000)).value();
  std::mt19937_64 random(testing::TestSeed());
  std::vector<int64_t> keys(kBatch);
  const std::vector<float> grads(kBatch * kDim, 0.01f);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  int64_t step = 0, most_resident = 0, early_resident = 0;
  double most_space = 0.0;
  for (; step < 600 || elapsed() < seconds; ++step) {
    ASSERT_FALSE(HasFailure());
    // Keys of the last 300 steps, mostly of the newest: a third are new.
    for (int64_t& key : keys) {
      const auto back = static_cast<int64_t>(random() % (1 + random() % 300));
      key =
          static_cast<int64_t>(HashKey((step - back) * 400 + static_cast<int64_t>(random() % 400)));
    }
    const std::vector<int64_t> now = {1000 + step};
    UniqueKeys unique;
    const Status used =
        table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique, {.timestamps = now});
    ASSERT_TRUE(used.ok()) << used.message();
    ApplyResult result;
    const Status applied = table->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                                   StaleAddress::kReject, &result);
    ASSERT_TRUE(applied.ok()) << applied.message();
    if (step % 20 == 0) {
      ASSERT_TRUE(table->Evict(std::nullopt, std::nullopt).ok());
    }
    if (step % 10 != 0 || step < 300) continue;
    const TierStats tiers = table->Stats().tiers.value();
    // A segment is a MiB; two are open, one is in reserve, some are about to be sealed or removed.
    constexpr double kSlack = 8 << 20;
    const double space = (static_cast<double>(tiers.bytes_on_disk) - kSlack) /
                         static_cast<double>(std::max<int64_t>(tiers.bytes_live, 1));
    most_space = std::max(most_space, space);
    ASSERT_LE(space, 1.5) << "step " << step << ": " << tiers.bytes_on_disk << " bytes on disk, "
                          << tiers.bytes_live << " live";
    most_resident = std::max(most_resident, ResidentBytes());
    if (step == 300) early_resident = most_resident;
    ASSERT_LE(most_resident, early_resident + early_resident / 2 + (64 << 20)) << "step " << step;
  }
  const TableStats stats = table->Stats();
  EXPECT_GT(stats.evicted_by_age, 10'000);
  EXPECT_GT(stats.tiers->compacted_rows, 0);
  EXPECT_EQ(stats.tiers->background_error, "");
  std::cout << step << " steps, " << stats.rows << " rows, " << stats.tiers->bytes_on_disk / 1e6
            << " MB on disk, " << stats.tiers->bytes_live / 1e6 << " MB live, space at most "
            << most_space << ", resident " << most_resident / 1e6 << " MB" << std::endl;
}

}  // namespace
}  // namespace mxrec
