// What a table with an SSD tier does is what the same table with all rows in memory does.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "mxrec/checkpoint.h"
#include "optimizers/random_seed.h"
#include "table/random_history.h"
#include "table/table_contents.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

using testing::Contents;
using testing::ContentsOf;
using testing::RandomHistory;
using testing::Range;
using testing::SsdDirectory;
using testing::Tiered;

void RunHistory(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  RandomHistory memory(seed), tiered(seed, true);
  memory.UseAddressesOfLivingRowsOnly();
  tiered.UseAddressesOfLivingRowsOnly();
  for (int i = 0; i < 60 && !::testing::Test::HasFailure(); ++i) {
    memory.Step();
    tiered.Step();
    ASSERT_EQ(memory.table().size(), tiered.table().size()) << "step " << i;
    if (i % 6 != 0) continue;
    const Contents expected = ContentsOf(memory.table()), found = ContentsOf(tiered.table());
    ASSERT_EQ(expected.rows.size(), found.rows.size()) << "step " << i;
    for (const auto& [key, row] : expected.rows) {
      ASSERT_TRUE(found.rows.contains(key)) << "step " << i << ", key " << key;
      const Contents::Row& other = found.rows.at(key);
      ASSERT_EQ(row.frequency, other.frequency) << "step " << i << ", key " << key;
      ASSERT_EQ(row.last_time, other.last_time) << "step " << i << ", key " << key;
      ASSERT_EQ(row.values, other.values) << "step " << i << ", key " << key;
    }
    ASSERT_TRUE(expected.counts == found.counts) << "step " << i;
  }
}

TEST(TableTiersTest, HistoriesEqualThoseInMemoryBitForBit) {
  MXREC_TRACE_SEED();
  const uint64_t histories = testing::Histories(100);
  for (uint64_t seed = 0; seed < histories && !HasFailure(); ++seed) RunHistory(seed);
  for (uint64_t i = 0; i < histories / 4 && !HasFailure(); ++i) {
    RunHistory(testing::TestSeed() + i);
  }
}

TableOptions SmallOptions(int64_t capacity, int64_t memory_rows) {
  TableOptions options;
  options.name = "small";
  options.dim = 4;
  options.memory_rows = capacity;
  options.optimizer.kind = OptimizerKind::kSgd;
  options.initializer.kind = InitializerKind::kUniform;
  return Tiered(options, memory_rows);
}

std::vector<float> Use(Table* table, const std::vector<int64_t>& keys) {
  std::vector<float> out(keys.size() * static_cast<size_t>(table->dim()));
  const Status status = table->LookupOrInsert(keys, out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

std::vector<float> Look(const Table& table, const std::vector<int64_t>& keys) {
  std::vector<float> out(keys.size() * static_cast<size_t>(table.dim()));
  const Status status = table.Lookup(keys, nullptr, out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

TierStats Tiers(const Table& table) { return table.Stats().tiers.value(); }

TEST(TableTiersTest, AFullTableNamesBothSizes) {
  const auto table = Table::Create(SmallOptions(1000, 100)).value();
  for (int64_t key = 0; key < 1000; key += 50) Use(table.get(), Range(key, key + 50));
  EXPECT_EQ(table->size(), 1000);
  const std::vector<int64_t> more = Range(990, 1001);
  std::vector<float> out(more.size() * 4);
  const Status refused = table->LookupOrInsert(more, out.data());
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("ssd_rows (ssd_vocabulary_size)"), std::string::npos)
      << refused.message();
  EXPECT_EQ(table->size(), 1000);
  EXPECT_EQ(Use(table.get(), Range(0, 1000)), Look(*table, Range(0, 1000)));
}

TEST(TableTiersTest, ARestoreThatDoesNotFitNamesBothSizes) {
  const std::string saved = SsdDirectory() + "/saved";
  const auto large = Table::Create(SmallOptions(1000, 100)).value();
  Use(large.get(), Range(0, 500));
  ASSERT_TRUE(SaveTable(*large, saved, 1).ok());
  const auto small = Table::Create(SmallOptions(300, 100)).value();
  Use(small.get(), Range(0, 200));
  const Contents before = ContentsOf(*small);
  const auto restored = RestoreTable(small.get(), saved);
  ASSERT_FALSE(restored.ok());
  EXPECT_NE(restored.status().message().find("memory_rows 100 and ssd_rows 200"), std::string::npos)
      << restored.status().message();
  EXPECT_TRUE(ContentsOf(*small) == before);
  const auto fits = Table::Create(SmallOptions(500, 3)).value();
  ASSERT_TRUE(RestoreTable(fits.get(), saved).ok());
  EXPECT_TRUE(ContentsOf(*fits) == ContentsOf(*large));
  EXPECT_LE(Tiers(*fits).memory_rows, 500);
  std::filesystem::remove_all(saved);
}

TEST(TableTiersTest, RowsOnSsdGetTheSlotsOfAnOptimizer) {
  for (const auto kind : {OptimizerKind::kAdagrad, OptimizerKind::kLazyAdam}) {
    TableOptions options = SmallOptions(2000, 50);
    options.optimizer = {};
    const auto tiered = Table::Create(options).value();
    const auto memory = Table::Create(testing::Untiered(options)).value();
    OptimizerOptions bound;
    bound.kind = kind;
    for (Table* table : {tiered.get(), memory.get()}) {
      for (int64_t key = 0; key < 1500; key += 100) {
        std::vector<float> out(400);
        const std::vector<int64_t> now = {key};
        ASSERT_TRUE(
            table->LookupOrInsert(Range(key, key + 100), out.data(), {.timestamps = now}).ok());
      }
      const std::vector<int64_t> keys = Range(0, 40);
      UniqueKeys unique;
      const std::vector<int64_t> now = {5000};
      ASSERT_TRUE(
          table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique, {.timestamps = now}).ok());
      ASSERT_TRUE(table->BindOptimizer(bound).ok());
      const std::vector<float> grads(unique.size() * 4, 0.5f);
      ApplyResult result;
      ASSERT_TRUE(table
                      ->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                         StaleAddress::kReject, &result)
                      .ok())
          << "addresses stay valid";
      EXPECT_EQ(result.updated, 40);
      ASSERT_TRUE(table
                      ->ApplyGradients(Range(1000, 1400), std::vector<float>(1600, 0.25f).data(),
                                       0.1f, &result)
                      .ok());
    }
    EXPECT_GT(Tiers(*tiered).ssd_rows, 1000);
    EXPECT_TRUE(ContentsOf(*tiered) == ContentsOf(*memory));
  }
}

TEST(TableTiersTest, AClosedTableLeavesNoFilesAndCanBeMadeAgain) {
  const std::string path = SsdDirectory() + "/closing";
  std::filesystem::create_directory(path);
  TableOptions options = SmallOptions(1000, 20);
  options.ssd_paths = {path};
  for (int round = 0; round < 3; ++round) {
    const auto table = Table::Create(options).value();
    Use(table.get(), Range(0, 400));
    Use(table.get(), Range(400, 800));
    EXPECT_GT(Tiers(*table).ssd_rows, 300);
    EXPECT_FALSE(std::filesystem::is_empty(path));
    if (round == 1) continue;  // destroyed, not closed
    ASSERT_TRUE(table->Prefetch(Range(0, 100)).ok());
    table->Close();
    EXPECT_TRUE(std::filesystem::is_empty(path));
    EXPECT_EQ(table->Prefetch(Range(0, 100)).code(), StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(std::filesystem::is_empty(path));
}

TEST(TableTiersTest, PreparedBatchesThatNobodyUsesTakeBoundedMemory) {
  const auto table = Table::Create(SmallOptions(60'000, 2000)).value();
  for (int64_t key = 0; key < 50'000; key += 1000) Use(table.get(), Range(key, key + 1000));
  const std::vector<float> before = Look(*table, Range(0, 50'000));
  for (int64_t i = 0; i < 3000; ++i) {
    const int64_t key = i * 37 % 49'900;
    ASSERT_TRUE(table->Prepare(Range(key, key + 100)).ok());
  }
  const TierStats tiers = Tiers(*table);
  EXPECT_GT(tiers.staged_rows, 0);
  constexpr int64_t kMost = 32768 + 4 * 100;  // and of each thread a batch on its way
  EXPECT_LE(tiers.staged_rows, kMost);
  EXPECT_LE(tiers.bytes_staged, kMost * 256);
  EXPECT_EQ(Look(*table, Range(0, 50'000)), before);
  // Those that were staged are as they are on SSD.
  EXPECT_EQ(Use(table.get(), Range(0, 50'000)), before);
}

TEST(TableTiersTest, RowsOfAPreparedBatchDoNotLeaveBeforeIt) {
  MXREC_TRACE_SEED();
  std::mt19937_64 random(testing::TestSeed());
  const auto table = Table::Create(SmallOptions(100'000, 3000)).value();
  for (int64_t key = 0; key < 20'000; key += 500) Use(table.get(), Range(key, key + 500));
  const auto batch = [&](size_t n) {
    std::vector<int64_t> keys(n);
    for (int64_t& key : keys) key = static_cast<int64_t>(random() % 20'000);
    return keys;
  };
  const auto tiers = [&] { return table->Stats().tiers.value(); };
  int64_t in_memory = 0, left = 0;
  for (int round = 0; round < 30; ++round) {
    std::vector<int64_t> keys = Range(round * 300, round * 300 + 600);
    Use(table.get(), keys);
    for (int i = 0; i < 3; ++i) Use(table.get(), batch(500));  // some of them leave
    ASSERT_TRUE(table->Prepare(keys).ok());
    const int64_t before = tiers().read_in_place;
    Look(*table, keys);
    const int64_t on_ssd = tiers().read_in_place - before;
    in_memory += static_cast<int64_t>(keys.size()) - on_ssd;
    Use(table.get(), batch(800));  // others than these and those have to leave
    const int64_t promoted = tiers().promoted;
    Use(table.get(), keys);
    // The other batch may have brought some of them. Slots that nothing had left yet bear no marks.
    if (round >= 3) left += std::max<int64_t>(0, tiers().promoted - promoted - on_ssd);
  }
  // A hand that finds too few others takes some; without marks a third of them leave.
  EXPECT_LE(left, in_memory / 20);
  EXPECT_GT(in_memory, 30 * 50);
}

TEST(TableTiersTest, ErasingDoesNotReadRows) {
  const auto table = Table::Create(SmallOptions(10'000, 20)).value();
  Use(table.get(), Range(0, 5000));
  Use(table.get(), Range(5000, 5020));
  const TierStats before = Tiers(*table);
  std::vector<int64_t> keys = Range(100, 900);
  keys.insert(keys.end(), {100, 200, 5001, 9999});  // twice, in memory, absent
  const auto erased = table->Erase(keys);
  ASSERT_TRUE(erased.ok());
  EXPECT_EQ(erased.value(), 801);
  EXPECT_EQ(table->size(), 5020 - 801);
  EXPECT_EQ(Tiers(*table).promoted, before.promoted);
  EXPECT_EQ(Tiers(*table).ssd_rows + Tiers(*table).memory_rows, table->size());
  EXPECT_EQ(Look(*table, {150}), std::vector<float>(4, 0.0f));
}

TEST(TableTiersTest, HitsAndMissesAddUp) {
  const auto table = Table::Create(SmallOptions(10'000, 100)).value();
  Use(table.get(), Range(0, 1000));
  Use(table.get(), Range(1000, 1100));
  UniqueKeys unique;
  ASSERT_TRUE(table->Resolve(Range(0, 50), ResolveMode::kFind, nullptr, &unique).ok());
  Use(table.get(), Range(500, 600));
  const TableStats before = table->Stats();
  std::vector<float> out(50 * 4);
  ASSERT_TRUE(table->ReadRows(unique.addresses, unique.keys, nullptr, out.data()).ok());
  EXPECT_EQ(table->Stats().misses, before.misses) << "reads by address are not counted";
  Look(*table, Range(0, 1200));
  EXPECT_EQ(table->Stats().hits, before.hits + 1100);
  EXPECT_EQ(table->Stats().misses, before.misses + 100);
}

// A gradient finds its row by an address of before the row left memory, however long ago.
TEST(TableTiersTest, GradientsByAddressFindRowsThatHaveLeftLongAgo) {
  const auto table = Table::Create(SmallOptions(100'000, 40)).value();
  UniqueKeys unique;
  ASSERT_TRUE(table->Resolve(Range(0, 30), ResolveMode::kInsert, nullptr, &unique).ok());
  const std::vector<float> before = Look(*table, Range(0, 30));
  Use(table.get(), Range(100, 2000));
  const std::vector<float> grads(30 * 4, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(
      table->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kReject, &result)
          .ok());
  EXPECT_EQ(result.updated, 30);
  std::vector<float> after = Look(*table, Range(0, 30));
  for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i], before[i] - 1.0f);
}

// Addresses of a row that was erased after it had left, on SSD or back in memory: as in memory,
// they do not mean the row that its key has now.
TEST(TableTiersTest, GradientsByAddressDoNotReachTheRowsOfErasedKeys) {
  for (const bool back : {false, true}) {
    const auto table = Table::Create(SmallOptions(100'000, 40)).value();
    UniqueKeys unique;
    ASSERT_TRUE(table->Resolve(Range(0, 30), ResolveMode::kInsert, nullptr, &unique).ok());
    for (int64_t key = 100; key < 2000; key += 30) Use(table.get(), Range(key, key + 30));
    if (back) Use(table.get(), Range(0, 30));
    ASSERT_EQ(table->Erase(Range(0, 30)).value(), 30);
    const std::vector<float> fresh = Use(table.get(), Range(0, 30));
    const std::vector<float> grads(30 * 4, 1.0f);
    ApplyResult result;
    const Status refused = table->ApplyToAddresses(unique.addresses, grads.data(), 1.0f,
                                                   StaleAddress::kReject, &result);
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused.message();
    EXPECT_EQ(Look(*table, Range(0, 30)), fresh);
  }
}

// A step may look a table up any number of times before it applies its gradients.
TEST(TableTiersTest, GradientsFindTheirRowsHoweverManyLookupsAStepHas) {
  constexpr int64_t kLookups = 200, kKeys = 30;
  const auto table = Table::Create(SmallOptions(100'000, 40)).value();
  for (int step = 1; step <= 3; ++step) {
    std::vector<UniqueKeys> lookups(kLookups);
    for (int64_t i = 0; i < kLookups; ++i) {
      ASSERT_TRUE(table
                      ->Resolve(Range(i * kKeys, (i + 1) * kKeys), ResolveMode::kInsert, nullptr,
                                &lookups[static_cast<size_t>(i)])
                      .ok());
    }
    const std::vector<float> before = Look(*table, Range(0, kLookups * kKeys));
    const std::vector<float> grads(kKeys * 4, 1.0f);
    int64_t updated = 0;
    for (const UniqueKeys& lookup : lookups) {
      ApplyResult result;
      const Status applied = table->ApplyToAddresses(
          lookup.addresses, grads.data(), 1.0f,
          step == 1 ? StaleAddress::kReject : StaleAddress::kFallBack, &result);
      ASSERT_TRUE(applied.ok()) << applied.message();
      updated += result.updated;
    }
    EXPECT_EQ(updated, kLookups * kKeys);
    const std::vector<float> after = Look(*table, Range(0, kLookups * kKeys));
    for (size_t i = 0; i < after.size(); ++i) ASSERT_EQ(after[i], before[i] - 1.0f) << i / 4;
  }
}

TEST(TableTiersTest, AddressesThatNobodyHasTakeNoMemory) {
  const auto table = Table::Create(SmallOptions(200'000, 1000)).value();
  for (int64_t key = 0; key < 100'000; key += 1000) Use(table.get(), Range(key, key + 1000));
  const TierStats tiers = Tiers(*table);
  EXPECT_GT(tiers.ssd_rows, 90'000);
  EXPECT_LT(tiers.bytes_index, 60 * tiers.ssd_rows);
}

}  // namespace
}  // namespace mxrec
