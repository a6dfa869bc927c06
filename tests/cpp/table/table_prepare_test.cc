// Training with batches that were prepared ahead is training, bit for bit, whatever happens to the
// table between the two.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <map>
#include <random>
#include <thread>

#include "mxrec/table.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

struct Contents {
  std::map<int64_t, std::vector<float>> rows;
  std::map<int64_t, std::pair<uint32_t, uint32_t>> uses;
  std::map<int64_t, uint32_t> counts;
  bool operator==(const Contents&) const = default;
};

Contents ContentsOf(const Table& table) {
  Contents contents;
  const auto floats = static_cast<size_t>(table.row_floats());
  const auto lock = table.LockForRead().value();
  RowBlock block;
  for (ScanCursor cursor;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1 << 20, &block, &lock).ok());
    if (block.size() == 0) break;
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = block.values.data() + i * floats;
      contents.rows[block.keys[i]] = {row, row + floats};
      contents.uses[block.keys[i]] = {block.frequency[i], block.last_time[i]};
    }
  }
  for (ScanCursor cursor;;) {
    EXPECT_TRUE(table.ScanCounts(&cursor, 1 << 20, &block, lock).ok());
    if (block.size() == 0) break;
    for (size_t i = 0; i < block.size(); ++i) contents.counts[block.keys[i]] = block.frequency[i];
  }
  return contents;
}

struct Step {
  std::vector<int64_t> keys;
  std::vector<int64_t> times;
};

class Twins {
 public:
  explicit Twins(uint64_t seed) : rng_(seed) {
    TableOptions options;
    options.name = "plain";
    options.dim = 1 + Draw(6);
    options.num_shards = 1 << Draw(4);
    options.memory_rows = Draw(3) == 0 ? 200 + Draw(400) : 0;
    options.optimizer.kind = OptimizerKind::kLazyAdam;
    options.initializer.kind = InitializerKind::kNormal;
    if (Draw(2) == 0) options.admission.threshold = 1 + Draw(4);
    if (Draw(3) > 0) options.eviction.max_age = 3 + Draw(6);
    plain_ = Table::Create(options).value();
    options.name = "prepared";
    prepared_ = Table::Create(options).value();
    depth_ = static_cast<size_t>(1 + Draw(4));
  }

  void Run() {
    for (int i = 0; i < 60 && !::testing::Test::HasFatalFailure(); ++i) {
      while (ahead_.size() < depth_) {
        ahead_.push_back(Draw());
        if (Draw(8) > 0) {
          ASSERT_TRUE(prepared_->Prepare(ahead_.back().keys).ok());
        }
      }
      Disturb();
      const Step step = ahead_.front();
      ahead_.pop_front();
      Train(step);
      ++now_;
      ASSERT_EQ(ContentsOf(*plain_), ContentsOf(*prepared_)) << "step " << i;
    }
    EXPECT_GT(prepared_->Stats().prepared_lookups, 20);
    EXPECT_EQ(plain_->Stats().prepared_lookups, 0);
    EXPECT_EQ(plain_->Stats().hits, prepared_->Stats().hits);
    EXPECT_EQ(plain_->Stats().misses, prepared_->Stats().misses);
  }

 private:
  int Draw(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }

  Step Draw() {
    Step step;
    const int examples = 1 + Draw(30), per = 1 + Draw(4);
    for (int i = 0; i < examples * per; ++i) step.keys.push_back(Draw(300) - 20);
    for (int i = 0; i < examples; ++i) step.times.push_back(now_ + Draw(5));
    return step;
  }

  void Disturb() {
    switch (Draw(8)) {
      case 0: {
        const int64_t now = now_ + Draw(4);
        if (plain_->options().eviction.max_age == kOff) break;
        const std::optional<int64_t> budget =
            Draw(2) ? std::nullopt : std::optional<int64_t>(Draw(20));
        EXPECT_EQ(plain_->Evict(now, budget).value(), prepared_->Evict(now, budget).value());
        break;
      }
      case 1: {
        std::vector<int64_t> keys;
        for (int i = 0; i < 100; ++i) keys.push_back(Draw(300) - 20);
        EXPECT_EQ(plain_->Erase(keys).value(), prepared_->Erase(keys).value());
        break;
      }
      case 2: {
        const Step other = Draw();  // of somebody who prepares nothing
        Train(other);
        break;
      }
      default:
        break;
    }
  }

  void Train(const Step& step) {
    Outputs plain = Resolve(plain_.get(), step);
    Outputs prepared = Resolve(prepared_.get(), step);
    ASSERT_EQ(plain.ok, prepared.ok);
    ASSERT_EQ(plain.unique.keys, prepared.unique.keys);
    ASSERT_EQ(plain.inverse, prepared.inverse);
    if (!plain.ok) return;
    std::vector<float> grads(plain.unique.keys.size() * static_cast<size_t>(plain_->dim()));
    for (float& grad : grads) grad = static_cast<float>(Draw(200) - 100) / 64.0f;
    Apply(plain_.get(), plain, grads);
    Apply(prepared_.get(), prepared, grads);
  }

  struct Outputs {
    bool ok = false;
    UniqueKeys unique;
    std::vector<int32_t> inverse;
  };
  static Outputs Resolve(Table* table, const Step& step) {
    Outputs out;
    out.inverse.resize(step.keys.size());
    out.ok = table
                 ->Resolve(step.keys, ResolveMode::kInsert, out.inverse.data(), &out.unique,
                           {.timestamps = step.times})
                 .ok();
    if (!out.ok) out = {};
    return out;
  }
  static void Apply(Table* table, const Outputs& out, const std::vector<float>& grads) {
    ApplyResult result;
    EXPECT_TRUE(table
                    ->ApplyToAddresses(out.unique.addresses, grads.data(), 0.1f,
                                       StaleAddress::kFallBack, &result)
                    .ok());
  }

  std::mt19937_64 rng_;
  std::shared_ptr<Table> plain_, prepared_;
  size_t depth_ = 1;
  int64_t now_ = 100;
  std::deque<Step> ahead_;
};

TEST(TablePrepareTest, RandomHistoriesEndInTheSameTable) {
  MXREC_TRACE_SEED();
  for (uint64_t seed = 0; seed < 150 && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Twins(testing::TestSeed() + seed).Run();
  }
}

TEST(TablePrepareTest, WhatIsPreparedAndNotUsedLeavesNoTrace) {
  TableOptions options;
  options.name = "t";
  options.dim = 4;
  options.admission.threshold = 2;
  const auto table = Table::Create(options).value();
  const std::vector<int64_t> keys = {1, 2, 3, 1};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(table->Prepare(keys).ok());
  EXPECT_EQ(table->size(), 0);
  std::vector<int64_t> counts(4, -1);
  ASSERT_TRUE(table->Counts(keys, counts.data()).ok());
  EXPECT_EQ(counts, std::vector<int64_t>(4, 0));
  EXPECT_EQ(table->Stats().prepared_waiting, 3);
  EXPECT_EQ(table->Stats().counted_keys, 0);
  EXPECT_EQ(table->Stats().hits + table->Stats().misses, 0);
}

// A slot that was freed and given to another key must not be taken for the old one.
TEST(TablePrepareTest, ASlotThatWentToAnotherKeyIsNotTheRow) {
  TableOptions options;
  options.name = "t";
  options.dim = 1;
  options.num_shards = 1;
  const auto table = Table::Create(options).value();
  float one = 1.0f, two = 2.0f, out = 0.0f;
  const std::vector<int64_t> first = {1}, second = {2}, other = {3};
  ASSERT_TRUE(table->Assign(first, &one).ok());
  ASSERT_TRUE(table->Prepare(first).ok());
  ASSERT_TRUE(table->Erase(first).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(table->LookupOrInsert(other, &out).ok());  // rests
  ASSERT_TRUE(table->Assign(second, &two).ok());
  UniqueKeys unique;
  int32_t inverse;
  ASSERT_TRUE(table->Resolve(first, ResolveMode::kInsert, &inverse, &unique).ok());
  ASSERT_EQ(table->Stats().prepared_lookups, 1);
  ASSERT_TRUE(table->ReadRows(unique.addresses, first, nullptr, &out).ok());
  EXPECT_NE(out, one);
  EXPECT_NE(out, two);
  EXPECT_EQ(table->size(), 3);
}

TEST(TablePrepareTest, PreparesBesideTraining) {
  TableOptions options;
  options.name = "t";
  options.dim = 8;
  options.optimizer.kind = OptimizerKind::kAdagrad;
  const auto table = Table::Create(options).value();
  std::mt19937_64 rng(5);
  std::vector<std::vector<int64_t>> batches(40);
  for (auto& batch : batches) {
    for (int i = 0; i < 5000; ++i) batch.push_back(static_cast<int64_t>(rng() % 20000));
  }
  std::atomic<size_t> ready{0};
  std::thread pipeline([&] {
    for (const auto& batch : batches) {
      EXPECT_TRUE(table->Prepare(batch).ok());
      ++ready;
    }
  });
  for (size_t i = 0; i < batches.size(); ++i) {
    while (ready <= i) std::this_thread::yield();
    UniqueKeys unique;
    std::vector<int32_t> inverse(batches[i].size());
    ASSERT_TRUE(table->Resolve(batches[i], ResolveMode::kInsert, inverse.data(), &unique).ok());
    for (size_t j = 0; j < inverse.size(); ++j) {
      ASSERT_EQ(unique.keys[static_cast<size_t>(inverse[j])], batches[i][j]);
    }
    const std::vector<float> grads(unique.keys.size() * 8, 0.5f);
    ApplyResult result;
    ASSERT_TRUE(
        table
            ->ApplyToAddresses(unique.addresses, grads.data(), 0.1f, StaleAddress::kReject, &result)
            .ok());
    EXPECT_EQ(result.updated, static_cast<int64_t>(unique.keys.size()));
  }
  pipeline.join();
  EXPECT_EQ(table->Stats().prepared_lookups, 40);
}

}  // namespace
}  // namespace mxrec
