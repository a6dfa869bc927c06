// Admission one contract at a time: what a failed batch leaves behind, capacity, determinism,
// thresholds.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>

#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "table/tiers.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

using Rows = std::map<int64_t, std::tuple<uint32_t, uint32_t, std::vector<float>>>;

TableOptions Options(int64_t threshold, AdmissionMode mode = AdmissionMode::kExact,
                     int shards = 4) {
  TableOptions options;
  options.name = "t";
  options.dim = 4;
  options.num_shards = shards;
  options.seed = 17;
  options.initializer.kind = InitializerKind::kNormal;
  options.optimizer.kind = OptimizerKind::kAdagrad;
  options.admission.threshold = threshold;
  options.admission.mode = mode;
  options.admission.expected_keys = 50'000;
  return options;
}

std::shared_ptr<Table> Make(const TableOptions& options) {
  return Table::Create(testing::TieredIfAsked(options)).value();
}

Rows RowsOf(const Table& table) {
  Rows rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1000, &block).ok());
    if (block.size() == 0) return rows;
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = &block.values[i * width];
      rows[block.keys[i]] = {block.frequency[i], block.last_time[i],
                             std::vector<float>(row, row + width)};
    }
  }
}

// Of exact counts.
std::map<int64_t, std::pair<uint32_t, uint32_t>> CountsOf(const Table& table) {
  std::map<int64_t, std::pair<uint32_t, uint32_t>> counts;
  const auto lock = table.LockForRead();
  ScanCursor cursor;
  RowBlock block;
  for (;;) {
    EXPECT_TRUE(table.ScanCounts(&cursor, 1000, &block, lock.value()).ok());
    if (block.size() == 0) return counts;
    for (size_t i = 0; i < block.size(); ++i) {
      counts[block.keys[i]] = {block.frequency[i], block.last_time[i]};
    }
  }
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> keys(static_cast<size_t>(end - begin));
  std::iota(keys.begin(), keys.end(), begin);
  return keys;
}

Status Train(Table* table, const std::vector<int64_t>& keys, int64_t time,
             int64_t coefficient = 0) {
  std::vector<float> out(keys.size() * static_cast<size_t>(table->dim()));
  const std::vector<int64_t> times = {time};
  return table->LookupOrInsert(keys, out.data(), {.timestamps = times, .coefficient = coefficient});
}

std::vector<int64_t> Counts(const Table& table, const std::vector<int64_t>& keys) {
  std::vector<int64_t> counts(keys.size());
  EXPECT_TRUE(table.Counts(keys, counts.data()).ok());
  return counts;
}

// A batch of known rows, of keys that have a count, of new keys that are admitted at once and of
// others that are not: every allocation of it fails once.
TEST(TableAdmissionTest, OutOfMemoryLeavesRowsAndCountsAsTheyWere) {
  for (const auto mode : {AdmissionMode::kExact, AdmissionMode::kSketch}) {
    for (const bool each_time : {false, true}) {
      SCOPED_TRACE(AdmissionModeName(mode));
      SCOPED_TRACE(each_time);
      auto table = Make(Options(2, mode));
      ASSERT_TRUE(Train(table.get(), Range(0, 300), 5, 2).ok());    // rows
      ASSERT_TRUE(Train(table.get(), Range(300, 900), 6, 1).ok());  // counts
      std::vector<int64_t> batch = Range(0, 600);
      for (const int64_t key : Range(10'000, 70'000)) {
        batch.push_back(key);
        if (key % 2 == 0) batch.push_back(key);
      }
      std::vector<int64_t> times(each_time ? batch.size() : 1, 9);
      std::vector<float> out(batch.size() * 4);
      const Rows rows = RowsOf(*table);
      const auto counts = CountsOf(*table);
      const std::vector<int64_t> all = Range(0, 70'000);
      const std::vector<int64_t> seen = Counts(*table, all);
      const TableStats before = table->Stats();
      int failures = 0;
      for (int64_t n = 0;; ++n) {
        PageAllocator::FailAllocation(n);
        const bool resolve = n % 2 == 1;
        UniqueKeys unique;
        const TrainingUse use{.timestamps = times, .coefficient = 0, .absent_row = nullptr};
        const Status status =
            resolve ? table->Resolve(batch, ResolveMode::kInsert, nullptr, &unique, use)
                    : table->LookupOrInsert(batch, out.data(), use);
        PageAllocator::FailAllocation(-1);
        if (status.ok()) break;
        ++failures;
        ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
        ASSERT_EQ(RowsOf(*table), rows);
        ASSERT_EQ(CountsOf(*table), counts);
        ASSERT_EQ(Counts(*table, all), seen);
        const TableStats after = table->Stats();
        ASSERT_EQ(after.rows, before.rows);
        ASSERT_EQ(after.counted_keys, before.counted_keys);
        ASSERT_EQ(after.hits, before.hits);
        ASSERT_EQ(after.misses, before.misses);
        ASSERT_EQ(after.admitted, before.admitted);
        ASSERT_EQ(after.inserts, before.inserts);
        ASSERT_EQ(after.refused_by_admission, before.refused_by_admission);
        ASSERT_EQ(after.latest_time, before.latest_time);
      }
      EXPECT_GE(failures, 4);
      // Then the batch succeeds, as if nothing had happened.
      auto other = Make(Options(2, mode, 1));
      ASSERT_TRUE(Train(other.get(), Range(0, 300), 5, 2).ok());
      ASSERT_TRUE(Train(other.get(), Range(300, 900), 6, 1).ok());
      ASSERT_TRUE(Train(other.get(), batch, 9).ok());
      EXPECT_EQ(RowsOf(*table), RowsOf(*other));
      EXPECT_EQ(Counts(*table, all), Counts(*other, all));
    }
  }
}

TEST(TableAdmissionTest, OnlyAdmittedKeysNeedRoom) {
  for (const auto mode : {AdmissionMode::kExact, AdmissionMode::kSketch}) {
    TableOptions options = Options(2, mode);
    options.memory_rows = 100;
    auto table = Make(options);
    ASSERT_TRUE(Train(table.get(), Range(0, 1000), 1).ok());  // counts take no capacity
    EXPECT_EQ(table->size(), 0);
    ASSERT_TRUE(Train(table.get(), Range(0, 90), 2).ok());
    EXPECT_EQ(table->size(), 90);
    const std::vector<int64_t> before = Counts(*table, Range(0, 1000));
    const Status full = Train(table.get(), Range(80, 101), 3);
    EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
    EXPECT_NE(full.message().find("capacity is 100"), std::string::npos) << full.message();
    EXPECT_EQ(Counts(*table, Range(0, 1000)), before);
    EXPECT_EQ(table->Stats().refused_by_capacity, 11);
    ASSERT_TRUE(Train(table.get(), Range(80, 100), 3).ok());
    EXPECT_EQ(table->size(), 100);
    ASSERT_TRUE(Train(table.get(), Range(5000, 5500), 4).ok());  // refused, not too many
  }
}

// What is gone makes room at once, although its memory is freed later.
TEST(TableAdmissionTest, ExpiredRowsTakeNoCapacity) {
  TableOptions options = Options(kOff);
  options.memory_rows = 30'000;
  options.eviction.max_age = 10;
  auto table = Make(options);
  ASSERT_TRUE(Train(table.get(), Range(0, 29'000), 5).ok());
  ASSERT_TRUE(Train(table.get(), Range(29'000, 30'000), 50).ok());
  EXPECT_EQ(table->Evict(std::nullopt, 0).value(), 0);
  EXPECT_EQ(table->size(), 1000);
  EXPECT_TRUE(table->Stats().evicting);
  ASSERT_TRUE(Train(table.get(), Range(100'000, 129'000), 51).ok());
  EXPECT_EQ(table->size(), 30'000);
  EXPECT_FALSE(Train(table.get(), {-1}, 52).ok());
  EXPECT_EQ(table->size(), 30'000);

  // A full table whose keys are all there has no need to hurry.
  auto calm = Make(options);
  ASSERT_TRUE(Train(calm.get(), Range(0, 25'000), 5).ok());
  ASSERT_TRUE(Train(calm.get(), Range(25'000, 30'000), 50).ok());
  ASSERT_TRUE(calm->Evict(std::nullopt, 0).ok());
  ASSERT_TRUE(Train(calm.get(), Range(25'000, 25'100), 50).ok());
  EXPECT_TRUE(calm->Stats().evicting);
}

// The same streams give the same bits, whatever the threads and shards.
TEST(TableAdmissionTest, RowsAndCountsDoNotDependOnThreadsOrShards) {
  MXREC_TRACE_SEED();
  const int threads_before = NumThreads();
  for (const auto mode : {AdmissionMode::kExact, AdmissionMode::kSketch}) {
    SCOPED_TRACE(AdmissionModeName(mode));
    Rows expected;
    std::vector<int64_t> expected_counts;
    std::vector<float> expected_values;
    for (const int threads : {1, 2, 5}) {
      ASSERT_TRUE(SetNumThreads(threads).ok());
      for (const int shards : {1, 4, 64}) {
        SCOPED_TRACE(::testing::Message() << threads << " threads, " << shards << " shards");
        TableOptions options = Options(3, mode, shards);
        options.admission.expected_keys = 4096 * 3;  // blocks come to age
        options.eviction.max_age = 6;
        auto table = Make(options);
        std::mt19937_64 rng(testing::TestSeed());
        std::vector<float> values;
        for (int step = 0; step < 24; ++step) {
          std::vector<int64_t> keys(9000);
          for (int64_t& key : keys) {
            key = static_cast<int64_t>(rng() % (rng() % 2 == 0 ? 2000 : 100'000));
          }
          std::vector<int64_t> times = {step};
          if (step % 3 == 0) {
            times.resize(keys.size() / 2);
            for (int64_t& time : times) time = step - static_cast<int64_t>(rng() % 4);
            for (int64_t& time : times) time = std::max<int64_t>(time, 0);
          }
          const TrainingUse use{.timestamps = times, .coefficient = 0, .absent_row = nullptr};
          std::vector<float> out(keys.size() * 4);
          if (step % 2 == 0) {
            ASSERT_TRUE(table->LookupOrInsert(keys, out.data(), use).ok());
            values.insert(values.end(), out.begin(), out.end());
          } else {
            UniqueKeys unique;
            ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique, use).ok());
            const std::vector<float> grads(unique.size() * 4, 0.25f);
            ApplyResult result;
            ASSERT_TRUE(table
                            ->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                               StaleAddress::kReject, &result)
                            .ok());
          }
          if (step % 8 == 7) {
            ASSERT_TRUE(table->Evict(std::nullopt, step % 16 == 7 ? 100 : 0).ok());
          }
        }
        const Rows rows = RowsOf(*table);
        const std::vector<int64_t> counts = Counts(*table, Range(0, 100'000));
        if (expected.empty()) {
          expected = rows;
          expected_counts = counts;
          expected_values = values;
          EXPECT_GT(rows.size(), 500u);
        }
        ASSERT_EQ(rows, expected);
        ASSERT_EQ(counts, expected_counts);
        ASSERT_EQ(values, expected_values);
      }
    }
  }
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

TEST(TableAdmissionTest, ThresholdsChangeWhileCountsStay) {
  auto table = Make(Options(5));
  ASSERT_TRUE(Train(table.get(), {1, 1, 1, 2}, 1).ok());
  ASSERT_TRUE(table->SetThreshold(4).ok());
  ASSERT_TRUE(Train(table.get(), {1, 2}, 2).ok());
  EXPECT_EQ(table->size(), 1);
  EXPECT_EQ(Counts(*table, {1, 2}), (std::vector<int64_t>{4, 2}));
  ASSERT_TRUE(table->SetThreshold(0).ok());  // frozen, at 4
  EXPECT_TRUE(table->Stats().admission_frozen);
  EXPECT_EQ(table->Stats().admission_threshold, 4);
  ASSERT_TRUE(Train(table.get(), {1, 2, 2, 2, 2}, 3).ok());
  EXPECT_EQ(Counts(*table, {1, 2}), (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(table->size(), 1);
  ASSERT_TRUE(table->SetThreshold(100).ok());  // takes no row away, and counts again
  ASSERT_TRUE(Train(table.get(), {1, 2}, 4).ok());
  EXPECT_EQ(Counts(*table, {1, 2}), (std::vector<int64_t>{5, 3}));
  EXPECT_EQ(table->size(), 1);

  EXPECT_EQ(table->SetThreshold(-1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(table->SetThreshold(kMaxThreshold + 1).code(), StatusCode::kInvalidArgument);
  auto sketch = Make(Options(5, AdmissionMode::kSketch));
  EXPECT_EQ(sketch->SetThreshold(16).code(), StatusCode::kInvalidArgument);
  auto off = Make(Options(kOff));
  EXPECT_EQ(off->SetThreshold(3).code(), StatusCode::kFailedPrecondition);
}

TEST(TableAdmissionTest, AdmissionMayComeLateAndStays) {
  auto table = Make(Options(kOff));
  ASSERT_TRUE(Train(table.get(), {1, 2}, 1).ok());
  const AdmissionOptions three = Options(3).admission;
  ASSERT_TRUE(table->ConfigureAdmission(three).ok());
  ASSERT_TRUE(table->ConfigureAdmission(three).ok());
  ASSERT_TRUE(Train(table.get(), {1, 3}, 2).ok());
  EXPECT_EQ(table->size(), 2);  // rows that were there stay
  AdmissionOptions five = three;
  five.threshold = 5;
  const Status other = table->ConfigureAdmission(five);
  EXPECT_EQ(other.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(other.message().find("threshold 3"), std::string::npos) << other.message();
  EXPECT_NE(other.message().find("threshold 5"), std::string::npos) << other.message();
}

// Rows that come from InsertMissing alone: lookups count, and the key waits at its threshold.
TEST(TableAdmissionTest, LookupsThatMakeNoRowsCount) {
  for (const auto mode : {AdmissionMode::kExact, AdmissionMode::kSketch}) {
    for (const int call : {0, 1, 2}) {
      SCOPED_TRACE(::testing::Message() << AdmissionModeName(mode) << ", call " << call);
      TableOptions options = Options(2, mode);
      options.memory_rows = 2;  // keys without a row take no capacity
      auto table = Make(options);
      const std::vector<int64_t> keys = {1, 2, 2, 3};
      const std::vector<float> default_row = {7, 7, 7, 7};
      const std::vector<int64_t> times = {5};
      const TrainingUse use{
          .timestamps = times, .absent_row = default_row.data(), .makes_rows = false};
      const auto lookup = [&](float* out) {
        UniqueKeys unique;
        const std::vector<int64_t> offsets = {0, 1, 2, 3, 4};
        if (call == 0) return table->LookupOrInsert(keys, out, use);
        if (call == 1) {
          return table->LookupOrInsertPooled(keys, {.offsets = offsets}, out, use);
        }
        std::vector<int32_t> inverse(keys.size());
        MXREC_RETURN_IF_ERROR(
            table->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique, use));
        for (size_t i = 0; i < keys.size(); ++i) {
          const auto u = static_cast<size_t>(inverse[i]);
          MXREC_RETURN_IF_ERROR(table->ReadRows({&unique.addresses[u], 1}, {&unique.keys[u], 1},
                                                default_row.data(), out + 4 * i));
        }
        return Status();
      };
      std::vector<float> out(16), absent(16, 7.0f);
      for (int step = 1; step <= 3; ++step) {
        const Status status = lookup(out.data());
        ASSERT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(out, absent);
        EXPECT_EQ(Counts(*table, {1, 2, 3}), (std::vector<int64_t>{step, 2 * step, step}));
      }
      EXPECT_EQ(table->size(), 0);
      EXPECT_EQ(table->Stats().refused_by_admission, 9);
      std::vector<int64_t> missing;
      ASSERT_TRUE(table->Missing(keys, &missing).ok());
      EXPECT_EQ(missing, (std::vector<int64_t>{1, 2, 3}));
      const std::vector<int64_t> inserted = {2};
      const std::vector<float> row = {1, 2, 3, 4};
      ASSERT_TRUE(table->InsertMissing(inserted, row.data()).ok());
      ASSERT_TRUE(lookup(out.data()).ok());
      for (size_t i = 0; i < 16; ++i)
        EXPECT_EQ(out[i], i / 8 == 0 && i < 4 ? 7 : i < 12 ? i % 4 + 1 : 7);
      EXPECT_EQ(Counts(*table, {1, 2, 3}), (std::vector<int64_t>{4, 8, 4}));
      EXPECT_EQ(table->size(), 1);
    }
  }
  // Without admission there is nothing to wait for.
  auto off = Make(Options(kOff));
  std::vector<float> out(4);
  const std::vector<int64_t> key = {1};
  ASSERT_TRUE(off->LookupOrInsert(key, out.data(), {.makes_rows = false}).ok());
  EXPECT_EQ(off->size(), 1);
}

TEST(TableAdmissionTest, AdmitsNoneUntilAThresholdComes) {
  EXPECT_FALSE(Make(Options(kOff))->admits_none());
  EXPECT_FALSE(Make(Options(1))->admits_none());
  auto late = Make(Options(kOff));
  ASSERT_TRUE(late->ConfigureAdmission(Options(0).admission).ok());
  EXPECT_TRUE(late->admits_none());
  for (const auto mode : {AdmissionMode::kExact, AdmissionMode::kSketch}) {
    auto table = Make(Options(0, mode));
    EXPECT_TRUE(table->admits_none());
    for (int step = 0; step < 3; ++step) ASSERT_TRUE(Train(table.get(), {1, 1, 1}, 5).ok());
    EXPECT_EQ(table->size(), 0);
    EXPECT_EQ(Counts(*table, {1}), std::vector<int64_t>{0});
    EXPECT_TRUE(table->admits_none());
    ASSERT_TRUE(table->SetThreshold(0).ok());
    EXPECT_TRUE(table->admits_none());
    ASSERT_TRUE(table->SetThreshold(2).ok());
    EXPECT_FALSE(table->admits_none());
    ASSERT_TRUE(table->SetThreshold(0).ok());  // frozen, at 2
    EXPECT_FALSE(table->admits_none());
    ASSERT_TRUE(Train(table.get(), {2, 2}, 5).ok());
    EXPECT_EQ(table->size(), 0) << "frozen counts do not grow";
    ASSERT_TRUE(table->SetThreshold(2).ok());
    ASSERT_TRUE(Train(table.get(), {2, 2}, 5).ok());
    EXPECT_EQ(table->size(), 1);
    EXPECT_FALSE(table->admits_none());
    table->Close();
    EXPECT_FALSE(table->admits_none());
  }
}

// Whoever finds the version that it knows need not read the table again.
TEST(TableAdmissionTest, TheVersionTellsWhatChanged) {
  auto table = Make(Options(3));
  uint64_t version = table->version();
  const auto changed = [&] {
    const uint64_t before = std::exchange(version, table->version());
    return version != before;
  };
  ASSERT_TRUE(Train(table.get(), {1}, 5).ok());  // no row, a count
  EXPECT_TRUE(changed());
  ASSERT_TRUE(table->SetThreshold(2).ok());
  EXPECT_TRUE(changed());
  ASSERT_TRUE(table->SetThreshold(0).ok());
  EXPECT_TRUE(changed());

  // Not by what only reads, nor by what is refused.
  std::vector<float> out(4);
  const std::vector<int64_t> key = {1};
  std::vector<int64_t> missing;
  UniqueKeys unique;
  ASSERT_TRUE(table->Lookup(key, nullptr, out.data()).ok());
  ASSERT_TRUE(table->Missing(key, &missing).ok());
  ASSERT_TRUE(table->Resolve(key, ResolveMode::kFind, nullptr, &unique).ok());
  EXPECT_EQ(Counts(*table, key), std::vector<int64_t>{1});
  EXPECT_EQ(RowsOf(*table), Rows());
  ASSERT_FALSE(Train(table.get(), key, -1).ok());
  ASSERT_FALSE(table->SetThreshold(-1).ok());
  ASSERT_FALSE(table->Evict(std::nullopt, std::nullopt).ok());
  EXPECT_FALSE(table->ConfigureAdmission(Options(5).admission).ok());
  ASSERT_TRUE(table->ConfigureAdmission(Options(3).admission).ok());  // as it is
  EXPECT_FALSE(changed());
}

// A lookup that fails may have swept before: rows beyond max_rows and below min_l2 are there until
// the sweep has come to them.
TEST(TableAdmissionTest, TheVersionChangesWithTheSweepOfALookupThatFails) {
  for (const bool by_rows : {true, false}) {
    SCOPED_TRACE(by_rows ? "max_rows" : "min_l2");
    TableOptions options = Options(kOff);
    options.memory_rows = 3000;
    if (by_rows) {
      options.eviction.max_rows = 1000;
    } else {
      options.eviction.min_l2 = 1.5f;
    }
    auto table = Make(options);
    const std::vector<int64_t> many = Range(10'000, 20'000);
    ASSERT_TRUE(Train(table.get(), Range(0, 3000), 5).ok());
    uint64_t version = table->version();
    ASSERT_EQ(Train(table.get(), many, 5).code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(table->version(), version);  // the table is as it was
    EXPECT_EQ(table->size(), 3000);

    ASSERT_TRUE(table->Evict(std::nullopt, 0).ok());
    EXPECT_NE(table->version(), version);
    version = table->version();
    const int64_t size = table->size();
    ASSERT_EQ(Train(table.get(), many, 5).code(), StatusCode::kResourceExhausted);
    ASSERT_LT(table->size(), size) << "nothing was swept: the test is too small";
    EXPECT_NE(table->version(), version);
  }
}

}  // namespace
}  // namespace mxrec
