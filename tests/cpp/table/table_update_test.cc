// Updates by address: the pass for distinct addresses against the general one, bit for bit; what
// sends a batch to the general one; that a refused batch leaves nothing behind; readers meanwhile.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <thread>

#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "table/table_state.h"

namespace mxrec {
namespace {

using testing::TestSeed;

TableOptions Options(int dim, OptimizerKind kind, int shards) {
  TableOptions options;
  options.name = "t";
  options.dim = dim;
  options.initializer.kind = InitializerKind::kNormal;
  options.optimizer.kind = kind;
  options.num_shards = shards;
  options.seed = 17;
  return options;
}

std::map<int64_t, std::vector<float>> Rows(const Table& table) {
  std::map<int64_t, std::vector<float>> rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  for (;;) {
    EXPECT_TRUE(table.Scan(&cursor, 4000, &block).ok());
    if (block.size() == 0) return rows;
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = &block.values[i * width];
      rows.emplace(block.keys[i], std::vector<float>(row, row + width));
    }
  }
}

std::vector<float> Normal(std::mt19937_64* rng, size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(*rng);
  return values;
}

class Threads {
 public:
  explicit Threads(int n) { EXPECT_TRUE(SetNumThreads(n).ok()); }
  ~Threads() { EXPECT_TRUE(SetNumThreads(before_).ok()); }

 private:
  const int before_ = NumThreads();
};

TEST(TableUpdateTest, DistinctAddressesGiveTheBitsOfTheGeneralPass) {
  MXREC_TRACE_SEED();
  for (const OptimizerKind kind :
       {OptimizerKind::kSgd, OptimizerKind::kMomentum, OptimizerKind::kAdagrad,
        OptimizerKind::kFtrl, OptimizerKind::kLazyAdam}) {
    for (const int dim : {7, 16}) {
      std::map<int64_t, std::vector<float>> expected;
      for (const int threads : {1, 2, 5}) {
        const Threads set(threads);
        for (const int shards : {1, 4, 64}) {
          auto table = Table::Create(Options(dim, kind, shards)).value();
          auto twin = Table::Create(Options(dim, kind, shards)).value();
          std::mt19937_64 rng(TestSeed());
          for (const size_t n : {size_t{300}, size_t{15000}}) {
            std::vector<int64_t> keys(n);
            for (int64_t& k : keys) k = static_cast<int64_t>(rng() % 20000);
            UniqueKeys unique, others;
            ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
            ASSERT_TRUE(twin->Resolve(keys, ResolveMode::kInsert, nullptr, &others).ok());
            std::vector<float> grads = Normal(&rng, unique.size() * static_cast<size_t>(dim));
            ApplyResult result;
            ASSERT_TRUE(table
                            ->ApplyToAddresses(unique.addresses, grads.data(), 0.05f,
                                               StaleAddress::kReject, &result)
                            .ok());
            EXPECT_EQ(result.updated, static_cast<int64_t>(unique.size()));
            EXPECT_EQ(result.skipped, 0);
            // A repetition that adds nothing.
            others.addresses.push_back(others.addresses[0]);
            grads.resize(grads.size() + static_cast<size_t>(dim), 0.0f);
            ASSERT_TRUE(twin->ApplyToAddresses(others.addresses, grads.data(), 0.05f,
                                               StaleAddress::kReject, &result)
                            .ok());
            EXPECT_EQ(result.updated, static_cast<int64_t>(unique.size()));
          }
          const auto rows = Rows(*table);
          ASSERT_EQ(rows, Rows(*twin)) << threads << " threads, " << shards << " shards";
          if (expected.empty()) expected = rows;
          ASSERT_EQ(rows, expected) << threads << " threads, " << shards << " shards";
        }
      }
    }
  }
}

// One incarnation of a table, so that a test sees which pass took a batch.
class DistinctPass : public ::testing::TestWithParam<int> {
 protected:
  static constexpr size_t kRows = 30000;
  static constexpr size_t kDim = 8;

  void SetUp() override {
    state_ = TableState::Create(Options(kDim, OptimizerKind::kSgd, 4)).value();
    std::vector<int64_t> keys(kRows);
    std::iota(keys.begin(), keys.end(), 0);
    KeyBatch::Ptr batch = KeyBatch::Acquire();
    batch->Partition(keys, state_->shard_bits(), KeyBatch::Grouping::kKeys);
    ASSERT_TRUE(state_->Insert(batch.get(), {.count_use = true}).ok());
    addresses_.resize(kRows);
    for (uint32_t s = 0; s < state_->shards(); ++s) {
      for (size_t u = batch->begin(s); u < batch->unique_end(s); ++u) {
        addresses_[static_cast<size_t>(batch->key[u])] = batch->address[u];
      }
    }
    before_ = Read();
  }

  std::vector<float> Read() const {
    std::vector<int64_t> keys(kRows);
    std::iota(keys.begin(), keys.end(), 0);
    std::vector<float> rows(kRows * kDim);
    EXPECT_TRUE(state_->Read(keys, nullptr, rows.data()).ok());
    return rows;
  }
  bool Update(const std::vector<int64_t>& addresses) {
    return state_->UpdateDistinct(addresses, grads_.data(), 0.5f, &step_, &result_);
  }
  // Nothing has changed, and the next batch is taken as if this one had never come.
  void ExpectUntouched() {
    EXPECT_EQ(step_, 0);
    EXPECT_EQ(Read(), before_);
    std::fill(grads_.begin(), grads_.end(), 0.0f);
    EXPECT_TRUE(Update(addresses_));
    EXPECT_TRUE(Update(addresses_));
    EXPECT_EQ(result_.updated, static_cast<int64_t>(kRows));
    EXPECT_EQ(step_, 2);
    EXPECT_EQ(Read(), before_);
  }

  const Threads threads_{GetParam()};
  std::unique_ptr<TableState> state_;
  std::vector<int64_t> addresses_;  // by key
  std::vector<float> before_;
  std::vector<float> grads_ = std::vector<float>(kRows * kDim, 1.0f);
  std::atomic<int64_t> step_{0};
  ApplyResult result_;
};

TEST_P(DistinctPass, TakesDistinctCurrentAddressesAndPadding) {
  std::vector<int64_t> addresses = addresses_;
  for (const size_t i : {size_t{0}, size_t{1}, size_t{7000}, kRows - 1}) addresses[i] = kNoAddress;
  ASSERT_TRUE(Update(addresses));
  EXPECT_EQ(result_.updated, static_cast<int64_t>(kRows - 4));
  EXPECT_EQ(result_.skipped, 1);  // distinct ones
  EXPECT_EQ(step_, 1);
  const std::vector<float> rows = Read();
  for (size_t i = 0; i < rows.size(); ++i) {
    const float change = addresses[i / kDim] == kNoAddress ? 0.0f : 0.5f;
    ASSERT_EQ(rows[i], before_[i] - change);
  }
  ASSERT_TRUE(Update({}));
  EXPECT_EQ(result_.updated, 0);
  ASSERT_TRUE(Update(std::vector<int64_t>(5000, kNoAddress)));
  EXPECT_EQ(result_.skipped, 1);
}

TEST_P(DistinctPass, LeavesRepetitionsToTheGeneralPass) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 20; ++round) {
    std::vector<int64_t> addresses = addresses_;
    const size_t from = rng() % kRows, to = rng() % kRows;
    if (from == to) continue;
    addresses[to] = addresses[from];
    ASSERT_FALSE(Update(addresses)) << from << " " << to;
  }
  ExpectUntouched();
}

TEST_P(DistinctPass, LeavesAddressesOfNoRowToTheGeneralPass) {
  const int64_t good = addresses_[5];
  for (const int64_t bad :
       {int64_t{-2}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
        int64_t{0}, good ^ (int64_t{1} << 62), good ^ (int64_t{1} << kSlotBits),
        good ^ (int64_t{1} << (kSlotBits - 1)), good + 1'000'000}) {
    for (const size_t at : {size_t{0}, size_t{15000}, kRows - 1}) {
      std::vector<int64_t> addresses = addresses_;
      addresses[at] = bad;
      ASSERT_FALSE(Update(addresses)) << bad << " at " << at;
    }
  }
  ExpectUntouched();
}

TEST_P(DistinctPass, LeavesStaleAddressesToTheGeneralPass) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  const std::vector<int64_t> gone = {20000};
  batch->Partition(gone, state_->shard_bits(), KeyBatch::Grouping::kKeys);
  ASSERT_EQ(state_->Erase(batch.get()), 1);
  ASSERT_FALSE(Update(addresses_));
  EXPECT_EQ(step_, 0);
  addresses_[20000] = kNoAddress;
  ASSERT_TRUE(Update(addresses_));
  EXPECT_EQ(result_.updated, static_cast<int64_t>(kRows - 1));
}

TEST_P(DistinctPass, LeavesGradientsThatAreNotFiniteToTheGeneralPass) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const size_t at : {size_t{0}, kRows * kDim / 2 + 3, kRows * kDim - 1}) {
      grads_[at] = bad;
      ASSERT_FALSE(Update(addresses_)) << bad << " at " << at;
      grads_[at] = 1.0f;
    }
  }
  ExpectUntouched();
}

INSTANTIATE_TEST_SUITE_P(Threads, DistinctPass, ::testing::Values(1, 2, 5));

// Every row goes down by the same amount in all columns, so a reader that finds two values in one
// row has seen an update half-done.
TEST(TableUpdateTest, ReadersSeeWholeRowsWhileDistinctAddressesAreUpdated) {
  const Threads set(4);
  TableOptions options = Options(16, OptimizerKind::kSgd, 8);
  options.initializer.kind = InitializerKind::kZeros;
  auto table = Table::Create(options).value();
  std::vector<int64_t> keys(12000);
  std::iota(keys.begin(), keys.end(), 0);
  UniqueKeys unique;
  ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
  std::atomic<bool> stop{false};
  const auto expect_whole = [](const std::vector<float>& rows) {
    for (size_t i = 0; i < rows.size(); ++i) ASSERT_EQ(rows[i], rows[i / 16 * 16]);
  };
  std::vector<std::thread> readers;
  readers.emplace_back([&] {
    std::vector<float> out(keys.size() * 16);
    while (!stop) {
      EXPECT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
      expect_whole(out);
    }
  });
  readers.emplace_back([&] {
    std::vector<float> out(keys.size() * 16);
    while (!stop) {
      EXPECT_TRUE(table->ReadRows(unique.addresses, unique.keys, nullptr, out.data()).ok());
      expect_whole(out);
    }
  });
  readers.emplace_back([&] {
    while (!stop) {
      ScanCursor cursor;
      RowBlock block;
      while (table->Scan(&cursor, 3000, &block).ok() && block.size() > 0) {
        expect_whole(block.values);
      }
    }
  });
  const std::vector<float> grads(keys.size() * 16, 1.0f);
  ApplyResult result;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(
        table
            ->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kReject, &result)
            .ok());
    ASSERT_EQ(result.updated, static_cast<int64_t>(keys.size()));
  }
  stop = true;
  for (std::thread& t : readers) t.join();
}

}  // namespace
}  // namespace mxrec
