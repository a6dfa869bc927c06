// Rows set to given embeddings: duplicates, capacity, memory that runs out, threads and shards.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

using Rows = std::map<int64_t, std::vector<float>>;

constexpr int kDim = 3;

std::shared_ptr<Table> Make(int shards, int64_t memory_rows = 0) {
  TableOptions options;
  options.name = "t";
  options.dim = kDim;
  options.num_shards = shards;
  options.memory_rows = memory_rows;
  options.initializer.kind = InitializerKind::kNormal;
  options.optimizer.kind = OptimizerKind::kAdagrad;
  return Table::Create(options).value();
}

Rows AllRows(const Table& table) {
  Rows rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1000, &block).ok());
    if (block.size() == 0) return rows;
    for (size_t i = 0; i < block.size(); ++i) {
      EXPECT_EQ(block.last_time[i], 0u);
      EXPECT_EQ(block.frequency[i], 0u);
      const float* row = &block.values[i * width];
      EXPECT_TRUE(rows.emplace(block.keys[i], std::vector<float>(row, row + width)).second);
    }
  }
}

struct Batch {
  std::vector<int64_t> keys;
  std::vector<float> values;
};

Batch Draw(std::mt19937_64* rng, size_t n, int64_t range) {
  Batch batch;
  for (size_t i = 0; i < n; ++i) {
    batch.keys.push_back(static_cast<int64_t>((*rng)() % static_cast<uint64_t>(range)) - 3);
    for (int c = 0; c < kDim; ++c) {
      batch.values.push_back(static_cast<float>((*rng)() % 100000) / 7.0f);
    }
  }
  return batch;
}

// What the table should hold: embedding, then Adagrad's initial accumulators.
void Expect(Rows* rows, const Batch& batch, bool keep) {
  const std::set<int64_t> before = [&] {
    std::set<int64_t> keys;
    for (const auto& [key, row] : *rows) keys.insert(key);
    return keys;
  }();
  for (size_t i = 0; i < batch.keys.size(); ++i) {
    if (keep && before.contains(batch.keys[i])) continue;
    std::vector<float>& row = (*rows)[batch.keys[i]];
    row.resize(2 * kDim, 0.1f);
    std::copy_n(&batch.values[i * kDim], kDim, row.begin());
  }
}

TEST(TableAssignTest, RandomBatchesEqualTheModelForAnyThreadsAndShards) {
  const int threads_before = NumThreads();
  for (int threads : {1, 3}) {
    ASSERT_TRUE(SetNumThreads(threads).ok());
    for (int shards : {1, 8, 64}) {
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        SCOPED_TRACE(testing::Message()
                     << threads << " threads, " << shards << " shards, seed " << seed);
        std::mt19937_64 rng(seed);
        auto table = Make(shards);
        Rows expected;
        for (int i = 0; i < 12; ++i) {
          const size_t n = i % 4 == 0 ? 8000 : rng() % 200;
          const Batch batch = Draw(&rng, n, i % 4 == 0 ? 20000 : 100);
          const bool keep = rng() % 2 == 0;
          const Status status = keep ? table->InsertMissing(batch.keys, batch.values.data())
                                     : table->Assign(batch.keys, batch.values.data());
          ASSERT_TRUE(status.ok()) << status.message();
          Expect(&expected, batch, keep);
          if (rng() % 3 == 0) {
            const Batch gone = Draw(&rng, 3000, 20000);
            int64_t erased = 0;
            for (int64_t key : gone.keys) erased += static_cast<int64_t>(expected.erase(key));
            ASSERT_EQ(table->Erase(gone.keys).value(), erased);
          }
          ASSERT_EQ(table->size(), static_cast<int64_t>(expected.size()));
        }
        ASSERT_EQ(AllRows(*table), expected);
        const TableStats stats = table->Stats();
        EXPECT_EQ(stats.inserts - stats.erased, table->size());
      }
    }
  }
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

TEST(TableAssignTest, EmptyBatchesAndSingleKeys) {
  auto table = Make(8);
  EXPECT_TRUE(table->Assign(std::vector<int64_t>{}, nullptr).ok());
  EXPECT_TRUE(table->InsertMissing(std::vector<int64_t>{}, nullptr).ok());
  EXPECT_EQ(table->Erase(std::vector<int64_t>{}).value(), 0);
  const std::vector<int64_t> key = {std::numeric_limits<int64_t>::min()};
  EXPECT_TRUE(table->Assign(key, std::vector<float>{1, 2, 3}.data()).ok());
  EXPECT_TRUE(table->InsertMissing(key, std::vector<float>{4, 5, 6}.data()).ok());
  EXPECT_EQ(AllRows(*table).at(key[0]), (std::vector<float>{1, 2, 3, 0.1f, 0.1f, 0.1f}));
  EXPECT_EQ(table->Erase(std::vector<int64_t>{key[0], key[0]}).value(), 1);
}

TEST(TableAssignTest, CapacityCountsDistinctNewKeys) {
  for (bool keep : {false, true}) {
    auto table = Make(4, 5);
    const auto put = [&](const std::vector<int64_t>& keys) {
      const std::vector<float> values(keys.size() * kDim, static_cast<float>(keys.size()));
      return keep ? table->InsertMissing(keys, values.data()) : table->Assign(keys, values.data());
    };
    ASSERT_TRUE(put({1, 2, 3}).ok());
    const Rows before = AllRows(*table);
    EXPECT_EQ(put({1, 7, 8, 9, 9}).code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(AllRows(*table), before);
    EXPECT_EQ(table->Stats().refused_by_capacity, 3);
    EXPECT_TRUE(put({1, 2, 3, 7, 7, 7, 8, 8, 1}).ok());  // exactly full
    EXPECT_EQ(table->size(), 5);
    EXPECT_TRUE(put({1, 2, 3, 7, 8}).ok());
    EXPECT_EQ(put({4}).code(), StatusCode::kResourceExhausted);
  }
}

// Every allocation of a batch fails once: nothing of the batch may stay, and the next try works.
TEST(TableAssignTest, OutOfMemoryAtAnyAllocationUndoesTheBatch) {
  const int threads_before = NumThreads();
  for (int threads : {1, 2}) {
    ASSERT_TRUE(SetNumThreads(threads).ok());
    for (bool keep : {false, true}) {
      for (int64_t n = 0;; ++n) {
        ASSERT_LT(n, 300);
        std::mt19937_64 rng(9);
        auto table = Make(4);
        const Batch first = Draw(&rng, 9000, 9000);
        ASSERT_TRUE(table->Assign(first.keys, first.values.data()).ok());
        const Rows before = AllRows(*table);
        const TableStats stats = table->Stats();
        const Batch more = Draw(&rng, 60000, 50000);
        const auto put = [&] {
          return keep ? table->InsertMissing(more.keys, more.values.data())
                      : table->Assign(more.keys, more.values.data());
        };
        PageAllocator::FailAllocation(n);
        const Status status = put();
        PageAllocator::FailAllocation(-1);
        if (status.ok()) {
          EXPECT_GT(n, 10);
          break;
        }
        ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
        ASSERT_EQ(table->size(), static_cast<int64_t>(before.size()));
        ASSERT_EQ(table->Stats().inserts, stats.inserts);
        if (n % 5 != 0) continue;  // comparing all rows is what takes the time
        ASSERT_EQ(AllRows(*table), before);
        ASSERT_TRUE(put().ok());
        Rows expected = before;
        Expect(&expected, more, keep);
        ASSERT_EQ(AllRows(*table), expected);
      }
    }
  }
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

}  // namespace
}  // namespace mxrec
