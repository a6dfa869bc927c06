// Table's contracts one by one: addresses, capacity, memory, errors, determinism.
#include "mxrec/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <thread>

#include "mxrec/runtime.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

TableOptions Options(int dim = 4, OptimizerKind kind = OptimizerKind::kSgd) {
  TableOptions options;
  options.name = "t";
  options.dim = dim;
  options.initializer.kind = InitializerKind::kNormal;
  options.optimizer.kind = kind;
  options.seed = 17;
  return options;
}

std::shared_ptr<Table> Make(const TableOptions& options) { return Table::Create(options).value(); }

std::map<int64_t, std::vector<float>> Rows(const Table& table) {
  std::map<int64_t, std::vector<float>> rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1000, &block).ok());
    if (block.size() == 0) return rows;
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = &block.values[i * width];
      EXPECT_TRUE(rows.emplace(block.keys[i], std::vector<float>(row, row + width)).second);
    }
  }
}

UniqueKeys Resolve(Table* table, const std::vector<int64_t>& keys) {
  UniqueKeys unique;
  EXPECT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
  return unique;
}

TEST(TableTest, UniqueKeysComeInBatchOrderWithCounts) {
  for (int shards : {1, 4, 64}) {
    TableOptions options = Options();
    options.num_shards = shards;
    auto table = Make(options);
    std::vector<int32_t> inverse(7);
    UniqueKeys unique;
    const std::vector<int64_t> keys = {9, -1, 9, 3, -1, 9, 0};
    ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique).ok());
    EXPECT_EQ(unique.keys, (std::vector<int64_t>{9, -1, 3, 0}));
    EXPECT_EQ(unique.counts, (std::vector<uint32_t>{3, 2, 1, 1}));
    EXPECT_EQ(inverse, (std::vector<int32_t>{0, 1, 0, 2, 1, 0, 3}));
  }
}

TEST(TableTest, TheSameDataGivesBitIdenticalRowsForAnyThreadsAndShards) {
  std::map<int64_t, std::vector<float>> expected;
  const int threads_before = NumThreads();
  for (int threads : {1, 2, 5}) {
    ASSERT_TRUE(SetNumThreads(threads).ok());
    for (int shards : {1, 4, 64}) {
      TableOptions options = Options(7, OptimizerKind::kLazyAdam);
      options.num_shards = shards;
      auto table = Make(options);
      std::mt19937_64 rng(5);
      for (int batch = 0; batch < 12; ++batch) {
        std::vector<int64_t> keys(20000);
        for (int64_t& k : keys) k = static_cast<int64_t>(rng() % 15000);
        std::vector<float> grads(keys.size() * 7);
        for (float& g : grads) g = static_cast<float>(rng() % 1000) / 300.0f - 1.5f;
        UniqueKeys unique = Resolve(table.get(), keys);
        ApplyResult result;
        if (batch % 2 == 0) {
          ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), 0.01f, &result).ok());
        } else {
          // Addresses with repetitions, as several lookups of one table give them.
          std::vector<int64_t> addresses(unique.addresses);
          addresses.insert(addresses.end(), unique.addresses.begin(), unique.addresses.end());
          if (addresses.size() * 7 > grads.size()) grads.resize(addresses.size() * 7, 0.25f);
          ASSERT_TRUE(
              table
                  ->ApplyToAddresses(addresses, grads.data(), 0.01f, StaleAddress::kReject, &result)
                  .ok());
        }
      }
      auto rows = Rows(*table);
      if (expected.empty()) expected = rows;
      ASSERT_EQ(rows, expected) << threads << " threads, " << shards << " shards";
    }
  }
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

TEST(TableTest, FullTableRefusesTheBatchAndKeepsItsRows) {
  TableOptions options = Options();
  options.memory_rows = 10;
  auto table = Make(options);
  std::vector<int64_t> keys(10);
  std::iota(keys.begin(), keys.end(), 0);
  Resolve(table.get(), keys);
  const auto before = Rows(*table);
  UniqueKeys unique;
  const Status status =
      table->Resolve(std::vector<int64_t>{1, 2, 100, 101}, ResolveMode::kInsert, nullptr, &unique);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("capacity is 10 rows, 10 are in use"), std::string::npos)
      << status.message();
  EXPECT_NE(status.message().find("2 new keys"), std::string::npos) << status.message();
  EXPECT_EQ(Rows(*table), before);
  RowBlock block;
  ScanCursor cursor;
  while (table->Scan(&cursor, 100, &block).ok() && block.size() > 0) {
    for (uint32_t f : block.frequency) EXPECT_EQ(f, 1u);  // the refused batch counted no use
  }
  EXPECT_EQ(table->Stats().refused_by_capacity, 2);
  EXPECT_EQ(table->size(), 10);
  ASSERT_EQ(table->Erase(std::vector<int64_t>{1, 2}).value(), 2);
  EXPECT_EQ(Resolve(table.get(), {100, 101}).size(), 2u);
}

TEST(TableTest, OutOfMemoryUndoesTheBatch) {
  for (int64_t n = 0; n < 30; ++n) {
    TableOptions options = Options(16);
    options.num_shards = 4;
    auto table = Make(options);
    std::vector<int64_t> first(3000);
    std::iota(first.begin(), first.end(), 0);
    Resolve(table.get(), first);
    const auto before = Rows(*table);
    std::vector<int64_t> more(80000);
    std::iota(more.begin(), more.end(), -100);
    PageAllocator::FailAllocation(n);
    UniqueKeys unique;
    const Status status = table->Resolve(more, ResolveMode::kInsert, nullptr, &unique);
    PageAllocator::FailAllocation(-1);
    if (status.ok()) {
      EXPECT_GT(n, 10);
      break;
    }
    ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
    ASSERT_EQ(table->size(), 3000);
    ASSERT_EQ(Rows(*table), before);
    ASSERT_EQ(Resolve(table.get(), more).size(), more.size());  // and it goes on
  }
}

TEST(TableTest, AddressesAreCheckedNotTrusted) {
  auto table = Make(Options());
  auto other = Make(Options());
  const UniqueKeys mine = Resolve(table.get(), {1, 2, 3});
  const UniqueKeys foreign = Resolve(other.get(), {1, 2, 3});
  const std::vector<float> grads(4, 1.0f);
  ApplyResult result;
  const auto before = Rows(*table);
  std::vector<int64_t> bad = {foreign.addresses[0],
                              -2,
                              std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int64_t>::max(),
                              mine.addresses[0] + 1000000,
                              mine.addresses[0] ^ (int64_t{1} << 40),
                              mine.addresses[0] ^ (int64_t{1} << 35),
                              0};
  for (int64_t address : bad) {
    for (StaleAddress policy : {StaleAddress::kReject, StaleAddress::kFallBack}) {
      const Status status = table->ApplyToAddresses(std::vector<int64_t>{address}, grads.data(),
                                                    1.0f, policy, &result);
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << address;
      EXPECT_NE(status.message().find("addresses[0] = " + std::to_string(address)),
                std::string::npos);
    }
  }
  EXPECT_EQ(Rows(*table), before);
  EXPECT_EQ(table->optimizer_step(), 0);
  ASSERT_TRUE(table
                  ->ApplyToAddresses(std::vector<int64_t>{kNoAddress}, grads.data(), 1.0f,
                                     StaleAddress::kReject, &result)
                  .ok());
  EXPECT_EQ(result.skipped, 1);
}

TEST(TableTest, StaleAddressesFallBackToTheirKey) {
  auto table = Make(Options());
  const UniqueKeys unique = Resolve(table.get(), {1, 2, 3});
  ASSERT_EQ(table->Erase(std::vector<int64_t>{1, 2}).value(), 2);
  const int64_t moved = Resolve(table.get(), {2}).addresses[0];  // 2 is back, elsewhere
  EXPECT_NE(moved, unique.addresses[1]);
  const std::vector<float> grads(12, 1.0f);
  ApplyResult result;
  EXPECT_EQ(
      table->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kReject, &result)
          .code(),
      StatusCode::kInvalidArgument);
  const auto before = Rows(*table);
  ASSERT_TRUE(
      table
          ->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kFallBack, &result)
          .ok());
  EXPECT_EQ(result.updated, 2);
  EXPECT_EQ(result.skipped, 1);
  EXPECT_EQ(Rows(*table)[2][0], before.at(2)[0] - 1.0f);
  // Both addresses of key 2 in one batch: one update with the sum.
  const auto again = Rows(*table);
  ASSERT_TRUE(table
                  ->ApplyToAddresses(std::vector<int64_t>{unique.addresses[1], moved}, grads.data(),
                                     1.0f, StaleAddress::kFallBack, &result)
                  .ok());
  EXPECT_EQ(result.updated, 1);
  EXPECT_EQ(Rows(*table)[2][0], again.at(2)[0] - 2.0f);
}

TEST(TableTest, NonFiniteGradientsAreRefusedWhole) {
  auto table = Make(Options());
  const UniqueKeys unique = Resolve(table.get(), {1, 2});
  const auto before = Rows(*table);
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> grads(8, 1.0f);
    grads[6] = bad;
    ApplyResult result;
    const Status by_key = table->ApplyGradients(unique.keys, grads.data(), 0.1f, &result);
    EXPECT_EQ(by_key.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(by_key.message().find("grads[1, 2]"), std::string::npos) << by_key.message();
    EXPECT_FALSE(table
                     ->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                        StaleAddress::kFallBack, &result)
                     .ok());
  }
  EXPECT_EQ(Rows(*table), before);
}

TEST(TableTest, PaddingKeysAreReadButNeverUpdated) {
  TableOptions options = Options();
  options.padding_keys = {0};
  auto table = Make(options);
  const UniqueKeys unique = Resolve(table.get(), {0, 5});
  EXPECT_EQ(unique.addresses[0], kNoAddress);
  const auto before = Rows(*table);
  const std::vector<float> grads(8, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(table->ApplyGradients(unique.keys, grads.data(), 1.0f, &result).ok());
  ASSERT_TRUE(
      table->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kReject, &result)
          .ok());
  EXPECT_EQ(Rows(*table)[0], before.at(0));
  EXPECT_NE(Rows(*table)[5], before.at(5));
}

TEST(TableTest, OptimizerMayComeLateAndAddressesStay) {
  auto table = Make(Options(4, OptimizerKind::kNone));
  const UniqueKeys unique = Resolve(table.get(), {1, 2, 3});
  const std::vector<float> grads(12, 1.0f);
  ApplyResult result;
  EXPECT_EQ(table->ApplyGradients(unique.keys, grads.data(), 0.1f, &result).code(),
            StatusCode::kFailedPrecondition);
  OptimizerOptions adagrad;
  adagrad.kind = OptimizerKind::kAdagrad;
  const auto before = Rows(*table);
  ASSERT_TRUE(table->BindOptimizer(adagrad).ok());
  auto rows = Rows(*table);
  for (int64_t k : {1, 2, 3}) {
    for (int c = 0; c < 4; ++c) {
      EXPECT_EQ(rows[k][c], before.at(k)[c]);
      EXPECT_EQ(rows[k][4 + c], 0.1f);
    }
  }
  ASSERT_TRUE(
      table->ApplyToAddresses(unique.addresses, grads.data(), 0.1f, StaleAddress::kReject, &result)
          .ok());
  EXPECT_EQ(result.updated, 3);
  OptimizerOptions sgd;
  sgd.kind = OptimizerKind::kSgd;
  EXPECT_EQ(table->BindOptimizer(sgd).code(), StatusCode::kFailedPrecondition);
}

TEST(TableTest, ClosedTableSaysSo) {
  auto table = Make(Options());
  table->Close();
  table->Close();
  std::vector<float> out(4);
  EXPECT_EQ(table->Lookup(std::vector<int64_t>{1}, nullptr, out.data()).code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(table->size(), 0);
}

TEST(TableTest, MemoryIsReportedAndSmallTablesAreSmall) {
  TableOptions options = Options(16);
  options.num_shards = 8;
  auto table = Make(options);
  std::vector<int64_t> keys(500000);
  std::iota(keys.begin(), keys.end(), 0);
  Resolve(table.get(), keys);
  const TableStats stats = table->Stats();
  EXPECT_EQ(stats.rows, 500000);
  EXPECT_EQ(stats.inserts, 500000);
  EXPECT_LE(static_cast<double>(stats.bytes_index + stats.bytes_metadata) / 500000.0, 36.0);
  EXPECT_GT(stats.growth_events, 0);
  EXPECT_GT(stats.longest_growth_micros, 0);
  EXPECT_GT(stats.growth_micros, stats.longest_growth_micros);
  EXPECT_LT(stats.growth_micros, stats.growth_events * (stats.longest_growth_micros + 1));
}

// Readers and writers at once: a reader sees a whole row that some writer assigned, never a mix.
TEST(TableTest, ConcurrentReadersSeeWholeRows) {
  TableOptions options = Options(32);
  options.initializer.kind = InitializerKind::kZeros;
  options.num_shards = 4;
  auto table = Make(options);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int w = 0; w < 2; ++w) {
    threads.emplace_back([&, w] {
      std::mt19937_64 rng(w);
      for (int round = 1; round < 60; ++round) {
        std::vector<int64_t> keys(3000);
        for (int64_t& k : keys) k = static_cast<int64_t>(rng() % 20000);
        std::vector<float> values(keys.size() * 32, static_cast<float>(round));
        EXPECT_TRUE(table->Assign(keys, values.data()).ok());
        if (round % 7 == 0) {
          EXPECT_TRUE(table->Erase(std::span(keys).first(500)).ok());
        }
      }
      stop = true;
    });
  }
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      std::mt19937_64 rng(100 + r);
      std::vector<int64_t> keys(5000);
      std::vector<float> out(keys.size() * 32);
      while (!stop) {
        for (int64_t& k : keys) k = static_cast<int64_t>(rng() % 20000);
        EXPECT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
        for (size_t i = 0; i < keys.size(); ++i) {
          for (int c = 1; c < 32; ++c) ASSERT_EQ(out[i * 32 + c], out[i * 32]);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST(TableTest, OtherHyperparametersKeepTheSlots) {
  auto table = Make(Options(4, OptimizerKind::kAdagrad));
  const UniqueKeys unique = Resolve(table.get(), {1, 2});
  const std::vector<float> grads(8, 1.0f);
  ApplyResult result;
  ASSERT_TRUE(table->ApplyGradients(unique.keys, grads.data(), 0.1f, &result).ok());
  const auto before = Rows(*table);
  OptimizerOptions other;
  other.kind = OptimizerKind::kAdagrad;
  other.learning_rate = 0.5f;
  ASSERT_TRUE(table->BindOptimizer(other).ok());
  EXPECT_EQ(Rows(*table), before);
  EXPECT_EQ(table->options().optimizer.learning_rate, 0.5f);
}

TEST(TableTest, SumsThatOverflowAreRefusedWhole) {
  auto table = Make(Options(2, OptimizerKind::kLazyAdam));
  Resolve(table.get(), {1, 2});
  const auto before = Rows(*table);
  const std::vector<float> grads = {3e38f, 1.0f, 3e38f, 1.0f, 1.0f, 1.0f};
  ApplyResult result;
  const Status status =
      table->ApplyGradients(std::vector<int64_t>{1, 1, 2}, grads.data(), 0.1f, &result);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("overflows"), std::string::npos);
  EXPECT_EQ(Rows(*table), before);
  EXPECT_EQ(table->optimizer_step(), 0);
  // Large but harmless: one occurrence a key.
  EXPECT_TRUE(table->ApplyGradients(std::vector<int64_t>{1, 2}, grads.data(), 0.1f, &result).ok());
}

// Batches that are refused, erased and inserted at once never lose count of the rows.
TEST(TableTest, RefusedBatchesAndErasesAtOnce) {
  TableOptions options = Options(4);
  options.memory_rows = 20000;
  options.num_shards = 8;
  auto table = Make(options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(t);
      for (int round = 0; round < 150; ++round) {
        std::vector<int64_t> keys(4000);
        for (int64_t& k : keys) k = static_cast<int64_t>(rng() % 60000);
        UniqueKeys unique;
        if (t == 0) {
          EXPECT_TRUE(table->Erase(keys).ok());
        } else {
          const Status status = table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique);
          EXPECT_TRUE(status.ok() || status.code() == StatusCode::kResourceExhausted);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(table->size(), 20000);
  EXPECT_EQ(table->size(), static_cast<int64_t>(Rows(*table).size()));
  EXPECT_EQ(table->Stats().inserts - table->Stats().erased, table->size());
}

TEST(TableTest, ReadersDoNotKeepWritersOut) {
  auto table = Make(Options(4));
  std::vector<int64_t> keys(100000);
  std::iota(keys.begin(), keys.end(), 0);
  Resolve(table.get(), keys);
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 4; ++t) {
    readers.emplace_back([&] {
      std::vector<float> out(keys.size() * 4);
      while (!stop) (void)table->Lookup(keys, nullptr, out.data()).ok();
    });
  }
  const std::vector<float> grads(40, 1.0f);
  ApplyResult result;
  for (int i = 0; i < 50; ++i) {  // would not end
    EXPECT_TRUE(table->ApplyGradients(std::span(keys).first(10), grads.data(), 1.0f, &result).ok());
  }
  table->Close();
  stop = true;
  for (std::thread& t : readers) t.join();
}

// A locked scan is the table between two batches: every row has been through the same number.
TEST(TableTest, LockedScanIsOneInstant) {
  TableOptions options = Options(4);
  options.initializer.kind = InitializerKind::kZeros;
  options.num_shards = 16;
  auto table = Make(options);
  std::vector<int64_t> keys(20000);
  std::iota(keys.begin(), keys.end(), 0);
  Resolve(table.get(), keys);
  std::atomic<bool> stop{false};
  std::vector<std::thread> trainers;
  for (int t = 0; t < 2; ++t) {
    trainers.emplace_back([&] {
      const std::vector<float> grads(keys.size() * 4, -1.0f);
      ApplyResult result;
      while (!stop) ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), 1.0f, &result).ok());
    });
  }
  for (int round = 0; round < 20; ++round) {
    const auto lock = table->LockForRead();
    ASSERT_TRUE(lock.ok());
    const auto steps = static_cast<float>(table->optimizer_step());
    ScanCursor cursor;
    RowBlock block;
    int64_t rows = 0;
    while (table->Scan(&cursor, 5000, &block, &lock.value()).ok() && block.size() > 0) {
      for (float v : block.values) ASSERT_EQ(v, steps);
      rows += static_cast<int64_t>(block.size());
    }
    ASSERT_EQ(rows, 20000);
  }
  stop = true;
  for (std::thread& t : trainers) t.join();
}

}  // namespace
}  // namespace mxrec
