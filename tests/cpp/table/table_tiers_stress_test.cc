// A table with an SSD tier under threads that train, read, save, evict and announce batches. Every
// row tells its key and how often it was updated, so that each read can be checked.
// MXREC_TEST_SECONDS: how long.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

constexpr int kDim = 4;
constexpr int64_t kKeys = 2000;
constexpr float kUpdates = 4096.0f;  // fewer than so many of a row

double Seconds(double usual) {
  const char* text = std::getenv("MXREC_TEST_SECONDS");
  return text == nullptr ? usual : std::strtod(text, nullptr);
}

// Of a row that InsertMissing has made: key * 4096 + updates + column. Of one that a lookup has
// made: updates alone.
std::vector<float> FirstRows(const std::vector<int64_t>& keys) {
  std::vector<float> rows;
  for (const int64_t key : keys) {
    for (int c = 0; c < kDim; ++c) {
      rows.push_back(static_cast<float>(key) * kUpdates + static_cast<float>(c));
    }
  }
  return rows;
}

bool IsRowOf(int64_t key, const float* row, bool may_be_zero) {
  const float updates = row[0] - static_cast<float>(key) * kUpdates;
  bool right = updates >= 0.0f && updates < kUpdates && updates == std::floor(updates);
  for (int c = 0; right && c < kDim; ++c) right = row[c] == row[0] + static_cast<float>(c);
  bool made = may_be_zero && row[0] >= 0.0f && row[0] < kUpdates;
  for (int c = 0; made && c < kDim; ++c) made = row[c] == row[0];
  return right || made;
}

class Stress {
 public:
  // erases: rows go and come; otherwise every key has its row all the time.
  explicit Stress(bool erases) : erases_(erases) {
    TableOptions options;
    options.name = "stress";
    options.dim = kDim;
    options.num_shards = 4;
    options.memory_rows = 4000;
    options.use_hot = true;
    options.optimizer.kind = OptimizerKind::kSgd;
    options.initializer.kind = InitializerKind::kZeros;
    if (erases) {
      options.eviction.max_age = 40;
      options.eviction.max_rows = 1500;
    }
    table_ = Table::Create(testing::Tiered(options, 300)).value();
    std::vector<int64_t> keys;
    for (int64_t key = 0; key < kKeys; ++key) keys.push_back(key);
    EXPECT_TRUE(table_->InsertMissing(keys, FirstRows(keys).data()).ok());
  }

  void Run(double seconds) {
    std::vector<std::thread> threads;
    const auto start = [&](uint64_t number, const std::function<void(std::mt19937_64&)>& round) {
      threads.emplace_back([this, number, round] {
        std::mt19937_64 random(testing::TestSeed() + number);
        while (!stop_ && !::testing::Test::HasFailure()) round(random);
      });
    };
    for (uint64_t t = 0; t < 2; ++t) {
      start(t, [&](auto& random) { Train(random); });
      start(10 + t, [&](auto& random) { Read(random); });
    }
    start(20, [&](auto& random) { Announce(random); });
    start(30, [&](auto& random) { Save(random); });
    if (erases_) start(40, [&](auto& random) { Erase(random); });
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop_ = true;
    for (std::thread& thread : threads) thread.join();
    CheckAll();
  }

 private:
  static std::vector<int64_t> Keys(std::mt19937_64& random, size_t most) {
    std::vector<int64_t> keys(1 + random() % most);
    for (int64_t& key : keys) {
      const auto draw = static_cast<int64_t>(random() % kKeys);
      key = random() % 2 == 0 ? draw : draw / 20;  // some are hot
    }
    return keys;
  }
  void CheckRows(const std::vector<int64_t>& keys, const std::vector<float>& rows) {
    for (size_t i = 0; i < keys.size(); ++i) {
      const float* row = &rows[i * kDim];
      ASSERT_TRUE(IsRowOf(keys[i], row, erases_))
          << "key " << keys[i] << ": " << row[0] << " " << row[1] << " " << row[2];
    }
  }
  static void Check(const Status& status) { ASSERT_TRUE(status.ok()) << status.message(); }

  void Train(std::mt19937_64& random) {
    const std::vector<int64_t> keys = Keys(random, random() % 8 == 0 ? 3000 : 200);
    const std::vector<int64_t> now = {++time_ / 8};
    const TrainingUse use{.timestamps = now};
    if (random() % 4 == 0) Check(table_->InsertMissing(keys, FirstRows(keys).data()));
    if (random() % 2 == 0) {
      std::vector<float> out(keys.size() * kDim);
      Check(table_->LookupOrInsert(keys, out.data(), use));
      CheckRows(keys, out);
      return;
    }
    UniqueKeys unique;
    std::vector<int32_t> inverse(keys.size());
    Check(table_->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique, use));
    const bool updates = total_updates_.fetch_add(1) < 4000;
    const std::vector<float> grads(unique.size() * kDim, updates ? -1.0f : 0.0f);
    ApplyResult result;
    Check(table_->ApplyToAddresses(unique.addresses, grads.data(), 1.0f, StaleAddress::kFallBack,
                                   &result));
    std::vector<float> rows(unique.size() * kDim);
    Check(table_->ReadRows(unique.addresses, unique.keys, nullptr, rows.data()));
    CheckRows(unique.keys, rows);
  }

  void Read(std::mt19937_64& random) {
    const std::vector<int64_t> keys = Keys(random, random() % 8 == 0 ? 3000 : 100);
    std::vector<float> out(keys.size() * kDim, -1.0f);
    switch (random() % 4) {
      case 0: {
        std::vector<int64_t> offsets;
        for (size_t i = 0; i <= keys.size(); ++i) offsets.push_back(static_cast<int64_t>(i));
        Check(table_->LookupPooled(keys, {.offsets = offsets}, nullptr, out.data()));
        break;
      }
      case 1: {
        const auto there = std::make_unique<bool[]>(keys.size());
        Check(table_->Contains(keys, there.get()));
        for (size_t i = 0; !erases_ && i < keys.size(); ++i) ASSERT_TRUE(there[i]) << keys[i];
        return;
      }
      default:
        Check(table_->Lookup(keys, nullptr, out.data()));
    }
    CheckRows(keys, out);
  }

  void Announce(std::mt19937_64& random) {
    const std::vector<int64_t> keys = Keys(random, 300);
    Check(random() % 2 == 0 ? table_->Prefetch(keys) : table_->Prepare(keys));
    const TableStats stats = table_->Stats();
    EXPECT_GE(stats.misses, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  void Save(std::mt19937_64& random) {
    const std::string parent = random() % 3 == 0 ? std::string() : table_->lineage();
    const int64_t image_bytes = random() % 2 == 0 ? 4096 : 1 << 20;
    auto begun =
        table_->BeginSnapshot({.parent = parent, .tracks = true, .image_bytes = image_bytes});
    ASSERT_TRUE(begun.ok()) << begun.status().message();
    std::set<int64_t> keys;
    RowBlock block;
    do {
      Check(begun.value().Scan(1 + static_cast<int64_t>(random() % 500), &block));
      for (const int64_t key : block.keys) {
        ASSERT_TRUE(keys.insert(key).second) << "key " << key << " twice";
      }
      CheckRows(block.keys, block.values);
    } while (block.size() > 0);
    if (!erases_ && parent.empty()) {
      EXPECT_EQ(keys.size(), static_cast<size_t>(kKeys));
    }
    std::string uid = std::to_string(++saves_) + std::string(32, '-');
    uid.resize(32);
    begun.value().End(random() % 4 == 0 ? std::string() : uid);
  }

  void Erase(std::mt19937_64& random) {
    if (random() % 2 == 0) {
      Check(table_->Erase(Keys(random, 50)).status());
    } else {
      const auto budget = random() % 2 == 0 ? std::optional<int64_t>() : random() % 100;
      Check(table_->Evict(std::nullopt, budget).status());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }

  void CheckAll() {
    int64_t rows = 0;
    RowBlock block;
    ScanCursor cursor;
    do {
      Check(table_->Scan(&cursor, 1000, &block));
      CheckRows(block.keys, block.values);
      std::vector<float> out(block.values.size());
      Check(table_->Lookup(block.keys, nullptr, out.data()));
      EXPECT_EQ(out, block.values);
      rows += static_cast<int64_t>(block.size());
    } while (block.size() > 0);
    EXPECT_EQ(rows, table_->size());
    const TierStats tiers = table_->Stats().tiers.value();
    EXPECT_EQ(tiers.errors, 0);
    EXPECT_EQ(tiers.background_error, "");
    EXPECT_GT(tiers.promoted, 0);
    EXPECT_GT(tiers.spilled, 0);
  }

  const bool erases_;
  std::shared_ptr<Table> table_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> time_{0};
  std::atomic<int64_t> total_updates_{0};
  std::atomic<int64_t> saves_{0};
};

TEST(TableTiersStressTest, RowsThatStayAreAlwaysThere) {
  MXREC_TRACE_SEED();
  Stress(false).Run(Seconds(1.5));
}

TEST(TableTiersStressTest, RowsThatComeAndGoAreNeverWrong) {
  MXREC_TRACE_SEED();
  Stress(true).Run(Seconds(1.5));
}

TableOptions TinyOptions() {
  TableOptions options;
  options.name = "tiny";
  options.dim = kDim;
  options.num_shards = 8;
  options.memory_rows = 1000;
  options.optimizer.kind = OptimizerKind::kSgd;
  return testing::Tiered(options, 64);
}

// The first rows that leave memory, and the last that come back, beside a reader.
TEST(TableTiersStressTest, TheFirstRowsToLeaveAreNotMissed) {
  std::vector<int64_t> keys, more;
  for (int64_t key = 0; key < 64; ++key) {
    keys.push_back(key);
    more.push_back(1000 + key);
  }
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    const auto table = Table::Create(TinyOptions()).value();
    ASSERT_TRUE(table->InsertMissing(keys, FirstRows(keys).data()).ok());
    std::atomic<bool> stop{false};
    std::thread reader([&] {
      std::vector<float> out(keys.size() * kDim);
      while (!stop && !HasFailure()) {
        EXPECT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
        EXPECT_EQ(out, FirstRows(keys));
      }
    });
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(table->InsertMissing(more, FirstRows(more).data()).ok());
      EXPECT_TRUE(table->Erase(more).ok());
      EXPECT_TRUE(table->InsertMissing(keys, FirstRows(keys).data()).ok());  // they come back
    }
    stop = true;
    reader.join();
  }
}

TEST(TableTiersStressTest, ATableCanGoWhileItsThreadsWork) {
  for (int round = 0; round < 30 && !HasFailure(); ++round) {
    auto table = Table::Create(TinyOptions()).value();
    for (int64_t first = 0; first < 800; first += 50) {
      std::vector<int64_t> keys;
      for (int64_t key = first; key < first + 50; ++key) keys.push_back(key);
      ASSERT_TRUE(table->InsertMissing(keys, FirstRows(keys).data()).ok());
      ASSERT_TRUE(table->Prefetch(keys).ok());
    }
    if (round % 2 == 0) table->Close();
    table.reset();
  }
}

}  // namespace
}  // namespace mxrec
