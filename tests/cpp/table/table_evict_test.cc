// Eviction one contract at a time: paused sweeps, rules beside age, memory, and threads.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "index/key_hash.h"
#include "mxrec/table.h"
#include "table/tiers.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kEffort = 1;
#else
constexpr int kEffort = 4;
#endif

constexpr int kDim = 16;

TableOptions Options(int64_t max_age, int shards = 4) {
  TableOptions options;
  options.name = "t";
  options.dim = kDim;
  options.num_shards = shards;
  options.initializer.kind = InitializerKind::kOnes;
  options.optimizer.kind = OptimizerKind::kSgd;
  options.eviction.max_age = max_age;
  return options;
}

std::shared_ptr<Table> Make(const TableOptions& options) {
  return Table::Create(testing::TieredIfAsked(options)).value();
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> keys(static_cast<size_t>(end - begin));
  std::iota(keys.begin(), keys.end(), begin);
  return keys;
}

void Train(Table* table, const std::vector<int64_t>& keys, int64_t time) {
  std::vector<float> out(keys.size() * kDim);
  const std::vector<int64_t> times = {time};
  const Status status = table->LookupOrInsert(keys, out.data(), {.timestamps = times});
  ASSERT_TRUE(status.ok()) << status.message();
}

UniqueKeys Resolve(Table* table, const std::vector<int64_t>& keys, int64_t time) {
  UniqueKeys unique;
  const std::vector<int64_t> times = {time};
  EXPECT_TRUE(
      table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique, {.timestamps = times}).ok());
  return unique;
}

std::set<int64_t> KeysOf(const Table& table) {
  std::set<int64_t> keys;
  ScanCursor cursor;
  RowBlock block;
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 10'000, &block).ok());
    if (block.size() == 0) return keys;
    for (const int64_t key : block.keys) EXPECT_TRUE(keys.insert(key).second);
  }
}

TEST(TableEvictTest, SweepsAreBoundedAndEnd) {
  auto table = Make(Options(10));
  Train(table.get(), Range(0, 300'000), 5);
  Train(table.get(), Range(300'000, 330'000), 50);
  EXPECT_EQ(table->Evict(std::nullopt, 0).value(), 0);
  EXPECT_EQ(table->size(), 30'000);
  EXPECT_EQ(table->Evict(std::nullopt, 7).value(), 7);
  int steps = 0;
  int64_t before = table->Stats().evicted_by_age;
  while (table->Stats().evicting) {
    ASSERT_LT(++steps, 10'000);
    Train(table.get(), {300'000}, 50);
    const int64_t now = table->Stats().evicted_by_age;
    EXPECT_LE(now - before, 5 * 4608);  // a small batch frees a segment's worth
    before = now;
    ASSERT_EQ(table->size(), 30'000);
  }
  EXPECT_GT(steps, 30);
  EXPECT_EQ(before, 300'000);
}

// A trigger that comes again and again, before the sweep behind it is done.
TEST(TableEvictTest, FrequentTriggersDoNotStarveTheSweep) {
  auto table = Make(Options(10));
  Train(table.get(), Range(0, 200'000), 5);
  Train(table.get(), {-1}, 50);
  for (int step = 0; step < 400 && table->Stats().evicted_by_age < 200'000; ++step) {
    ASSERT_TRUE(table->Evict(std::nullopt, 0).ok());
    Train(table.get(), {-1}, 50);
  }
  EXPECT_EQ(table->Stats().evicted_by_age, 200'000);
}

// What an earlier trigger declared gone does not come back through a later one that forgives more.
TEST(TableEvictTest, AMoreLenientTriggerBringsNothingBack) {
  auto table = Make(Options(10));
  Train(table.get(), Range(0, 50'000), 5);
  Train(table.get(), {-1}, 30);
  ASSERT_TRUE(table->Evict(30, 0).ok());
  EvictionOptions lenient;
  lenient.max_age = 1000;
  ASSERT_TRUE(table->ConfigureEviction(lenient).ok());
  ASSERT_TRUE(table->Evict(30, 0).ok());
  EXPECT_EQ(KeysOf(*table), std::set<int64_t>{-1});
}

TEST(TableEvictTest, LeastFrequentRowsGoThenThoseFirstInTheOrderOfHashes) {
  for (const int shards : {1, 8}) {
    TableOptions options = Options(kOff, shards);
    options.eviction.max_rows = 600;
    auto table = Make(options);
    Train(table.get(), Range(0, 1000), 1);
    Train(table.get(), Range(500, 1000), 2);
    EXPECT_EQ(table->Evict(std::nullopt, std::nullopt).value(), 400);
    std::vector<int64_t> once = Range(0, 500);
    std::sort(once.begin(), once.end(),
              [](int64_t a, int64_t b) { return HashKey(a) < HashKey(b); });
    std::set<int64_t> left(once.begin() + 400, once.end());
    for (const int64_t key : Range(500, 1000)) left.insert(key);
    EXPECT_EQ(KeysOf(*table), left);
    EXPECT_EQ(table->Stats().evicted_by_rows, 400);
    EXPECT_EQ(table->Evict(std::nullopt, std::nullopt).value(), 0);
  }
}

TEST(TableEvictTest, SmallRowsGo) {
  TableOptions options = Options(kOff);
  options.eviction.min_l2 = 2.0f;
  auto table = Make(options);
  const std::vector<int64_t> keys = Range(0, 1000);
  std::vector<float> values(keys.size() * kDim);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i / kDim) / 1000.0f;
  ASSERT_TRUE(table->Assign(keys, values.data()).ok());
  ASSERT_TRUE(table->Evict(std::nullopt, std::nullopt).ok());
  std::set<int64_t> left;
  for (const int64_t key : keys) {
    if (std::sqrt(16.0) * static_cast<double>(values[static_cast<size_t>(key) * kDim]) >= 2.0) {
      left.insert(key);
    }
  }
  EXPECT_EQ(KeysOf(*table), left);
  EXPECT_EQ(table->Stats().evicted_by_l2, 1000 - static_cast<int64_t>(left.size()));
}

// Several lookups of one table in one step: the later ones sweep and move the rows of the first.
TEST(TableEvictTest, AddressesOfRowsThatMovedAreAsGoodAsBefore) {
  for (const auto policy : {StaleAddress::kReject, StaleAddress::kFallBack}) {
    for (const bool at_once : {false, true}) {
      auto table = Make(Options(10, 2));
      Train(table.get(), Range(0, 200'000), 5);
      std::vector<int64_t> kept;
      for (const int64_t key : Range(0, 200'000)) {
        if (HashKey(key) % 20 == 0) kept.push_back(key);
      }
      const UniqueKeys first = Resolve(table.get(), kept, 50);
      const int64_t bytes = table->Stats().bytes_rows;
      ASSERT_TRUE(table->Evict(std::nullopt, at_once ? std::nullopt : std::optional(0)).ok());
      for (int lookup = 0; lookup < 300; ++lookup) Train(table.get(), {kept[0]}, 50);
      ASSERT_FALSE(table->Stats().evicting);
      EXPECT_LT(table->Stats().bytes_rows, bytes / 2);
      const UniqueKeys again = Resolve(table.get(), kept, 50);
      size_t moved = 0;
      for (size_t u = 0; u < kept.size(); ++u) moved += first.addresses[u] != again.addresses[u];
      EXPECT_GT(moved, kept.size() / 2);
      const std::vector<float> grads(kept.size() * kDim, 1.0f);
      ApplyResult result;
      const Status status =
          table->ApplyToAddresses(first.addresses, grads.data(), 1.0f, policy, &result);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(result.updated, static_cast<int64_t>(kept.size()));
      std::vector<float> out(kept.size() * kDim, -1.0f);
      ASSERT_TRUE(table->ReadRows(first.addresses, kept, nullptr, out.data()).ok());
      EXPECT_EQ(out, std::vector<float>(out.size(), 0.0f));
      EXPECT_EQ(table->Stats().skipped_gradients, 0);
    }
  }
}

TEST(TableEvictTest, AnOptimizerMayComeWhileRowsMove) {
  TableOptions options = Options(10, 1);
  options.optimizer.kind = OptimizerKind::kNone;
  auto table = Make(options);
  Train(table.get(), Range(0, 100'000), 5);
  std::vector<int64_t> kept;
  for (const int64_t key : Range(0, 100'000)) {
    if (HashKey(key) % 20 == 0) kept.push_back(key);
  }
  const UniqueKeys first = Resolve(table.get(), kept, 50);
  ASSERT_TRUE(table->Evict(std::nullopt, 0).ok());
  OptimizerOptions adam;
  adam.kind = OptimizerKind::kLazyAdam;
  int lookups = 0;
  // Until some rows have moved and others not.
  for (; table->Stats().evicted_by_age < 95'000 - 5000 && lookups < 1000; ++lookups) {
    Train(table.get(), {kept[0]}, 50);
  }
  for (int more = 0; more < 12; ++more) Train(table.get(), {kept[0]}, 50);
  ASSERT_TRUE(table->BindOptimizer(adam).ok());
  for (; table->Stats().evicting && lookups < 2000; ++lookups) Train(table.get(), {kept[0]}, 50);
  const std::vector<float> grads(kept.size() * kDim, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(
      table->ApplyToAddresses(first.addresses, grads.data(), 0.5f, StaleAddress::kReject, &result)
          .ok());
  EXPECT_EQ(result.updated, static_cast<int64_t>(kept.size()));
}

TEST(TableEvictTest, NoMemoryToMoveRowsIntoKeepsThem) {
  auto table = Make(Options(10, 2));
  Train(table.get(), Range(0, 200'000), 5);
  Train(table.get(), Range(0, 10'000), 50);
  for (int64_t n = 0; n < 40; ++n) {
    PageAllocator::FailAllocation(n);
    ASSERT_TRUE(table->Evict(std::nullopt, 5000).ok());
    PageAllocator::FailAllocation(-1);
    ASSERT_EQ(table->size(), 10'000);
  }
  ASSERT_TRUE(table->Evict(std::nullopt, std::nullopt).ok());
  const std::vector<int64_t> expected = Range(0, 10'000);
  EXPECT_EQ(KeysOf(*table), std::set<int64_t>(expected.begin(), expected.end()));
}

TEST(TableEvictTest, TimesOfTwoKindsDoNotMixWhereAgesCount) {
  auto table = Make(Options(10));
  Train(table.get(), {1}, 5);
  std::vector<float> out(kDim);
  const std::vector<int64_t> key = {1};
  const Status mixed = table->LookupOrInsert(key, out.data());
  EXPECT_EQ(mixed.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(mixed.message().find("timestamps"), std::string::npos) << mixed.message();
  auto indifferent = Make(Options(kOff));
  Train(indifferent.get(), {1}, 5);
  EXPECT_TRUE(indifferent->LookupOrInsert(key, out.data()).ok());
  EXPECT_EQ(indifferent->Evict(std::nullopt, std::nullopt).status().code(),
            StatusCode::kFailedPrecondition);
}

// Trainers, readers, scanners, and a thread that evicts. Every row that is read is whole, young
// keys are always there, and what the evictor declared gone stays away.
TEST(TableEvictTest, ReadersTrainersAndEvictorsAtOnce) {
  TableOptions options = Options(10, 8);
  options.admission.threshold = 2;
  auto table = Make(options);
  constexpr int64_t kYoung = 2000;
  constexpr int64_t kOld = 40'000;
  std::atomic<int64_t> time{100};
  for (int twice = 0; twice < 2; ++twice) {
    Train(table.get(), Range(0, kYoung), time);
    Train(table.get(), Range(kYoung, kOld), 5);
  }
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {  // trains: young keys stay young, others come and go
    std::mt19937_64 rng(1);
    for (int step = 0; step < 60 * kEffort; ++step) {
      ++time;
      std::vector<int64_t> keys = Range(0, kYoung);
      for (int i = 0; i < 3000; ++i) keys.push_back(kYoung + static_cast<int64_t>(rng() % kOld));
      const UniqueKeys unique = Resolve(table.get(), keys, time);
      const std::vector<float> grads(unique.size() * kDim, 0.0f);
      ApplyResult result;
      const Status status = table->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                                    StaleAddress::kFallBack, &result);
      EXPECT_TRUE(status.ok()) << status.message();
    }
    done = true;
  });
  threads.emplace_back([&] {  // a second trainer, of other keys
    while (!done) Train(table.get(), Range(kOld, kOld + 500), time);
  });
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 rng(static_cast<uint64_t>(reader));
      std::vector<int64_t> keys = Range(0, 3000);
      std::vector<float> out(keys.size() * kDim);
      auto there = std::make_unique<bool[]>(keys.size());
      std::vector<int64_t> counts(keys.size());
      while (!done) {
        for (size_t i = kYoung; i < keys.size(); ++i) {
          keys[i] = kYoung + static_cast<int64_t>(rng() % kOld);
        }
        EXPECT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
        for (size_t i = 0; i < keys.size(); ++i) {
          for (size_t c = 0; c < kDim; ++c) {
            const float value = out[i * kDim + c];
            ASSERT_TRUE(value == 1.0f || (i >= kYoung && value == 0.0f)) << keys[i];
            ASSERT_EQ(value, out[i * kDim]) << "a torn row";
          }
        }
        EXPECT_TRUE(table->Contains(keys, there.get()).ok());
        EXPECT_TRUE(std::all_of(there.get(), there.get() + kYoung, [](bool b) { return b; }));
        EXPECT_TRUE(table->Counts(keys, counts.data()).ok());
        for (size_t i = 0; i < kYoung; ++i) ASSERT_GE(counts[i], 2);
      }
    });
  }
  threads.emplace_back([&] {
    while (!done) {
      std::set<int64_t> keys = KeysOf(*table);
      for (int64_t key = 0; key < kYoung; ++key) ASSERT_TRUE(keys.contains(key));
      EXPECT_GE(table->size(), kYoung);
      EXPECT_GE(table->Stats().rows, kYoung);
    }
  });
  threads.emplace_back([&] {
    std::mt19937_64 rng(9);
    while (!done) {
      const std::optional<int64_t> budget =
          rng() % 4 == 0 ? std::nullopt : std::optional(static_cast<int64_t>(rng() % 500));
      EXPECT_TRUE(table->Evict(std::nullopt, budget).ok());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(table->Evict(time + 1000, std::nullopt).ok());
  EXPECT_EQ(table->size(), 0);
  EXPECT_EQ(table->Stats().counted_keys, 0);
}

}  // namespace
}  // namespace mxrec
