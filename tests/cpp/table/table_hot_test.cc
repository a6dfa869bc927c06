// Tables with hot rows against tables without: the same calls, the same bits. A failure prints the
// seed of its sequence; MXREC_TEST_SEED=<seed> replays that one alone.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <thread>
#include <unordered_map>

#include "env/env.h"
#include "mxrec/checkpoint.h"
#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

constexpr int64_t kKeys = 60000;

uint32_t Seconds() { return static_cast<uint32_t>(Env::Default()->NowMicros() / 1'000'000); }

struct SavedRow {
  uint32_t frequency;
  uint32_t last_time;
  std::vector<float> values;
};

std::map<int64_t, SavedRow> Contents(const Table& table) {
  std::map<int64_t, SavedRow> rows;
  ScanCursor cursor;
  RowBlock block;
  const auto width = static_cast<size_t>(table.row_floats());
  while (table.Scan(&cursor, 5000, &block).ok() && block.size() > 0) {
    for (size_t i = 0; i < block.size(); ++i) {
      rows[block.keys[i]] = {block.frequency[i],
                             block.last_time[i],
                             {&block.values[i * width], &block.values[i * width] + width}};
    }
  }
  return rows;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Two tables, with hot rows and without, and what the documentation says of their counts.
template <class Key>
class Sequence {
 public:
  explicit Sequence(uint64_t seed) : rng_(seed), seed_(seed) {
    TableOptions options = Options();
    on_ = Table::Create(options).value();
    options.use_hot = false;
    off_ = Table::Create(options).value();
  }

  // hot_hits of the whole run.
  int64_t Run() {
    const int threads_before = NumThreads();
    EXPECT_TRUE(SetNumThreads(1 << Draw(3)).ok());
    for (int phase = 0; phase < 3 && !::testing::Test::HasFatalFailure(); ++phase) {
      // A new hot set, some of whose keys belong to the last one.
      first_ = phase * 1000;
      stride_ = 1 + 2 * Draw(20);
      Warm(phase);
      for (int i = 0; i < 25 && !::testing::Test::HasFatalFailure(); ++i) {
        Step();
        most_growth_ = std::max(most_growth_, on_->Stats().growth_events);  // until a restore
      }
      if (!::testing::Test::HasFatalFailure()) Compare();
    }
    EXPECT_TRUE(SetNumThreads(threads_before).ok());
    if (on_->Stats().num_shards < 64) {
      EXPECT_GT(most_growth_, 0);
    }
    SetGatherMode(GatherMode::kHighPerformance);
    return on_->Stats().hot_hits;
  }

 private:
  struct Known {
    uint32_t frequency = 0;
    size_t call = 0;  // that stamped it last; 0: none
  };
  struct Span {
    uint32_t from, to;  // seconds
  };

  int Draw(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }

  TableOptions Options() {
    TableOptions options;
    options.name = "hot";
    options.dim = std::array{1, 3, 8, 32}[Draw(4)];
    options.num_shards = std::array{1, 8, 64}[Draw(3)];
    options.seed = rng_();
    options.optimizer.kind = static_cast<OptimizerKind>(Draw(6));
    if (options.optimizer.kind == OptimizerKind::kMomentum) options.optimizer.momentum = 0.9f;
    options.value_type = static_cast<ValueType>(Draw(3));
    options.stochastic_rounding = options.value_type != ValueType::kFloat32 && Draw(2) == 0;
    if (Draw(3) == 0) options.padding_keys = {first_, 7};
    dim_ = static_cast<size_t>(options.dim);
    return options;
  }

  // Three of four are of the hot set, the lower the more often; the others are anything.
  std::vector<Key> Keys(size_t n) {
    std::vector<Key> keys(n);
    for (Key& key : keys) {
      if (Draw(4) != 0) {
        const double u = static_cast<double>(rng_() % 1000000) / 1e6;
        key = static_cast<Key>(first_ + stride_ * static_cast<int64_t>(2000 * u * u * u));
      } else if (Draw(50) == 0) {
        key = Draw(2) ? std::numeric_limits<Key>::min() : std::numeric_limits<Key>::max();
      } else {
        key = static_cast<Key>(Draw(kKeys) - kKeys / 4);
      }
    }
    return keys;
  }
  std::vector<Key> Keys() {
    switch (Draw(4)) {
      case 0:
        return Keys(static_cast<size_t>(Draw(40)));
      case 1:
        return Keys(static_cast<size_t>(5000 + Draw(15000)));
      default:
        return Keys(static_cast<size_t>(40 + Draw(3000)));
    }
  }
  std::vector<float> Floats(size_t rows) {
    std::vector<float> values(rows * dim_);
    for (float& v : values) v = static_cast<float>(Draw(2001) - 1000) / 512.0f;
    return values;
  }

  std::vector<Key> Range(int64_t from, size_t n) {
    std::vector<Key> keys(n);
    std::iota(keys.begin(), keys.end(), static_cast<Key>(from));
    return keys;
  }

  // Lookups until the sampler must have seen the phase's keys.
  void Warm(int phase) {
    Assign(Range(phase * 20000 - kKeys / 4, 20000), true);
    if (phase == 0) Train(Keys(30000));
    std::vector<std::vector<Key>> batches;
    for (int i = 0; i < 4; ++i) batches.push_back(Keys(32768));
    std::vector<float> out(32768 * dim_);
    const int rounds = std::array{5, 10, 16}[phase];
    for (const auto& keys : batches) {
      for (int i = 0; i < rounds; ++i) {
        ASSERT_TRUE(on_->Lookup(keys, nullptr, out.data()).ok());
      }
      CountLookup(keys, 0, rounds);
    }
    for (const auto& keys : batches) Lookup(keys);
    ASSERT_GT(on_->Stats().hot_rows, 0);
  }

  template <class Call>
  void Both(const Call& call) {
    call(on_.get(), 0);
    call(off_.get(), 1);
  }

  // So many lookups in table t; one in each.
  void CountLookup(const std::vector<Key>& keys, int t, int times) {
    for (const Key key : keys) (known_.contains(key) ? hits_ : misses_)[t] += times;
  }
  void CountLookup(const std::vector<Key>& keys) {
    for (int t = 0; t < 2; ++t) CountLookup(keys, t, 1);
  }
  void Use(const std::vector<Key>& keys, uint32_t from) {
    spans_.push_back({from, Seconds()});
    for (const Key key : keys) {
      Known& known = known_[key];
      ++known.frequency;
      known.call = spans_.size();
    }
  }

  void Lookup(const std::vector<Key>& keys) {
    std::vector<float> out[2];
    const std::vector<float> absent(dim_, 3.5f);
    const float* absent_row = Draw(2) ? absent.data() : nullptr;
    Both([&](Table* table, int t) {
      out[t].assign(keys.size() * dim_, -1.0f);
      ASSERT_TRUE(table->Lookup(keys, absent_row, out[t].data()).ok());
    });
    ASSERT_TRUE(SameBits(out[0], out[1]));
    CountLookup(keys);
  }

  void Train(const std::vector<Key>& keys) {
    std::vector<float> out[2];
    const uint32_t from = Seconds();
    Both([&](Table* table, int t) {
      out[t].assign(keys.size() * dim_, -1.0f);
      ASSERT_TRUE(table->LookupOrInsert(keys, out[t].data()).ok());
    });
    ASSERT_TRUE(SameBits(out[0], out[1]));
    CountLookup(keys);
    Use(keys, from);
  }

  bool Trained() const { return on_->options().optimizer.kind != OptimizerKind::kNone; }

  // Resolve, read, and update by address: at once, or after the rows have moved on.
  void Resolve(const std::vector<Key>& keys) {
    const bool insert = Draw(3) != 0;
    UniqueKeys unique[2];
    std::vector<int32_t> inverse[2];
    std::vector<float> rows[2];
    const uint32_t from = Seconds();
    Both([&](Table* table, int t) {
      inverse[t].resize(keys.size());
      ASSERT_TRUE(table
                      ->Resolve(keys, insert ? ResolveMode::kInsert : ResolveMode::kFind,
                                inverse[t].data(), &unique[t])
                      .ok());
    });
    ASSERT_EQ(unique[0].keys, unique[1].keys);
    ASSERT_EQ(unique[0].counts, unique[1].counts);
    ASSERT_EQ(inverse[0], inverse[1]);
    if (insert) {
      CountLookup(keys);
      Use(keys, from);
    }
    const bool late = Draw(3) == 0;
    if (late) Erase(Keys(100));
    Both([&](Table* table, int t) {
      rows[t].resize(unique[t].size() * dim_);
      ASSERT_TRUE(
          table->ReadRows(unique[t].addresses, unique[t].keys, nullptr, rows[t].data()).ok());
    });
    ASSERT_TRUE(SameBits(rows[0], rows[1]));
    if (!Trained()) return;
    const bool twice = Draw(2) == 0;  // duplicates take another way
    const std::vector<float> grads = Floats(unique[0].size() * (twice ? 2 : 1));
    ApplyResult results[2];
    Both([&](Table* table, int t) {
      std::vector<int64_t> addresses = unique[t].addresses;
      if (twice) addresses.insert(addresses.end(), addresses.begin(), addresses.end());
      const Status status = table->ApplyToAddresses(addresses, grads.data(), 0.05f,
                                                    StaleAddress::kFallBack, &results[t]);
      ASSERT_TRUE(status.ok()) << status.message();
    });
    ASSERT_EQ(results[0].updated, results[1].updated);
    ASSERT_EQ(results[0].skipped, results[1].skipped);
  }

  void Apply(const std::vector<Key>& keys) {
    if (!Trained()) return;
    const std::vector<float> grads = Floats(keys.size());
    ApplyResult results[2];
    Both([&](Table* table, int t) {
      ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), 0.05f, &results[t]).ok());
    });
    ASSERT_EQ(results[0].updated, results[1].updated);
    ASSERT_EQ(results[0].skipped, results[1].skipped);
  }

  void Assign(const std::vector<Key>& keys, bool keep) {
    const std::vector<float> values = Floats(keys.size());
    Both([&](Table* table, int) {
      ASSERT_TRUE(
          (keep ? table->InsertMissing(keys, values.data()) : table->Assign(keys, values.data()))
              .ok());
    });
    for (const Key key : keys) known_[key];
  }

  void Erase(const std::vector<Key>& keys) {
    int64_t erased[2];
    Both([&](Table* table, int t) { erased[t] = table->Erase(keys).value(); });
    ASSERT_EQ(erased[0], erased[1]);
    for (const Key key : keys) known_.erase(key);
  }

  void Bind() {
    OptimizerOptions optimizer = on_->options().optimizer;
    if (optimizer.kind == OptimizerKind::kNone) {
      optimizer.kind = static_cast<OptimizerKind>(1 + Draw(5));
      if (optimizer.kind == OptimizerKind::kMomentum) optimizer.momentum = 0.5f;
    }
    optimizer.learning_rate *= 0.5f;
    Both([&](Table* table, int) { ASSERT_TRUE(table->BindOptimizer(optimizer).ok()); });
  }

  // Either's checkpoint into both.
  void SaveAndRestore() {
    const std::string dir =
        (std::filesystem::temp_directory_path() /
         ("mxrec-hot-" + std::to_string(getpid()) + "-" + std::to_string(seed_)))
            .string();
    ASSERT_TRUE(SaveTable(Draw(2) ? *on_ : *off_, dir, 7).ok());
    Assign(Keys(), false);
    if (Draw(2)) Erase(Keys());
    Both([&](Table* table, int) { ASSERT_TRUE(RestoreTable(table, dir).ok()); });
    std::filesystem::remove_all(dir);
    known_.clear();
    for (const auto& [key, row] : Contents(*off_)) {
      known_[key].frequency = row.frequency;
      spans_.push_back({row.last_time, row.last_time});
      known_[key].call = spans_.size();
    }
    ASSERT_EQ(on_->Stats().hot_rows, 0) << "copies of rows that are gone";
  }

  void Step() {
    switch (Draw(24)) {
      case 0:
        SetGatherMode(Draw(2) ? GatherMode::kHighPrecision : GatherMode::kHighPerformance);
        break;
      case 1:
        Erase(Keys());
        break;
      case 2:
        Assign(Keys(), true);
        break;
      case 3:
      case 4:
        Assign(Keys(), false);
        break;
      case 5:
        Bind();
        break;
      case 6:
        if (Draw(3) == 0) SaveAndRestore();
        break;
      case 7:
        Compare();
        break;
      case 8:
      case 9:
      case 10:
      case 11:
        Resolve(Keys());
        break;
      case 12:
      case 13:
      case 14:
      case 15:
        Apply(Keys());
        break;
      case 16:
      case 17:
      case 18:
      case 19:
        Train(Keys());
        break;
      default:
        Lookup(Keys());
    }
    // Whatever a call left behind shows in the next read.
    if (!::testing::Test::HasFatalFailure()) Lookup(Keys());
  }

  void Compare() {
    const auto on = Contents(*on_), off = Contents(*off_);
    ASSERT_EQ(on.size(), known_.size());
    ASSERT_EQ(off.size(), known_.size());
    for (const auto& [key, row] : on) {
      const auto it = off.find(key);
      ASSERT_TRUE(it != off.end() && known_.contains(key)) << key;
      ASSERT_TRUE(SameBits(row.values, it->second.values)) << key;
      const Known& known = known_[key];
      const Span span = known.call == 0 ? Span{0, 0} : spans_[known.call - 1];
      for (const SavedRow* saved : {&row, &it->second}) {
        ASSERT_EQ(saved->frequency, known.frequency) << key;
        ASSERT_GE(saved->last_time, span.from) << key;
        ASSERT_LE(saved->last_time, span.to) << key;
      }
    }
    const TableStats stats[2] = {on_->Stats(), off_->Stats()};
    for (int t = 0; t < 2; ++t) {
      const TableStats& s = stats[t];
      ASSERT_EQ(s.hits, hits_[t]);
      ASSERT_EQ(s.misses, misses_[t]);
      ASSERT_EQ(s.rows, static_cast<int64_t>(known_.size()));
      ASSERT_LE(s.hot_hits, s.hits);
    }
    ASSERT_EQ(stats[0].inserts, stats[1].inserts);
    ASSERT_EQ(stats[0].erased, stats[1].erased);
    ASSERT_EQ(stats[0].skipped_gradients, stats[1].skipped_gradients);
    ASSERT_EQ(stats[0].optimizer_step, stats[1].optimizer_step);
    ASSERT_GT(stats[0].hot_hits, 0);
    ASSERT_EQ(stats[1].hot_hits, 0);
    ASSERT_EQ(stats[1].hot_rows, 0);
    ASSERT_EQ(stats[1].bytes_hot, 0);
  }

  std::mt19937_64 rng_;
  int64_t most_growth_ = 0;
  uint64_t seed_;
  size_t dim_ = 0;
  int64_t first_ = 0, stride_ = 1;  // of the hot set
  std::shared_ptr<Table> on_, off_;
  std::unordered_map<int64_t, Known> known_;
  std::vector<Span> spans_;                         // of the calls that stamp rows
  std::array<int64_t, 2> hits_ = {}, misses_ = {};  // by table
};

TEST(TableHotTest, EveryReadIsTheSameWithAndWithoutHotRows) {
  const char* replay = std::getenv("MXREC_TEST_SEED");
  const uint64_t first = replay == nullptr ? 1 : std::strtoull(replay, nullptr, 10);
  for (uint64_t seed = first; seed < first + (replay == nullptr ? 24 : 1); ++seed) {
    SCOPED_TRACE("replay with MXREC_TEST_SEED=" + std::to_string(seed));
    const int64_t hot =
        seed % 3 == 0 ? Sequence<int32_t>(seed).Run() : Sequence<int64_t>(seed).Run();
    EXPECT_GT(hot, 100000);
    if (HasFailure()) return;
  }
}

TableOptions Options(int dim) {
  TableOptions options;
  options.name = "hot";
  options.dim = dim;
  options.num_shards = 8;
  options.optimizer.kind = OptimizerKind::kSgd;
  return options;
}

std::vector<int64_t> Iota(size_t n, int64_t from = 0) {
  std::vector<int64_t> keys(n);
  std::iota(keys.begin(), keys.end(), from);
  return keys;
}

// Gives the table rows 0..n-1 and makes the hot ones hot.
void Heat(Table* table, size_t n) {
  std::vector<float> out(65536 * static_cast<size_t>(table->dim()));
  ASSERT_TRUE(table->LookupOrInsert(Iota(n), out.data()).ok());
  std::vector<int64_t> keys(65536);
  std::mt19937_64 rng(3);
  for (int64_t& key : keys) key = static_cast<int64_t>(rng() % std::min<size_t>(n, 200));
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
  ASSERT_GT(table->Stats().hot_rows, 0);
}

// rows, frequency, time, counts.
void ExpectUnchanged(const Table& table, const std::map<int64_t, SavedRow>& rows,
                     const TableStats& stats) {
  const auto now = Contents(table);
  ASSERT_EQ(now.size(), rows.size());
  for (const auto& [key, row] : rows) {
    const auto it = now.find(key);
    ASSERT_TRUE(it != now.end()) << key;
    ASSERT_EQ(it->second.frequency, row.frequency) << key;
    ASSERT_EQ(it->second.last_time, row.last_time) << key;
    ASSERT_TRUE(SameBits(it->second.values, row.values)) << key;
  }
  const TableStats after = table.Stats();
  EXPECT_EQ(after.rows, stats.rows);
  EXPECT_EQ(after.hits, stats.hits);
  EXPECT_EQ(after.misses, stats.misses);
  EXPECT_EQ(after.inserts, stats.inserts);
  EXPECT_EQ(after.hot_hits, stats.hot_hits);
}

TEST(TableHotTest, ATrainingLookupThatDoesNotFitCountsNothing) {
  TableOptions options = Options(4);
  options.memory_rows = 1000;
  auto table = Table::Create(options).value();
  Heat(table.get(), 1000);
  const auto rows = Contents(*table);
  const TableStats stats = table->Stats();
  for (const size_t n : {40, 30000}) {
    std::vector<int64_t> keys(n);
    for (size_t i = 0; i < n; ++i) keys[i] = static_cast<int64_t>(i % 300);
    keys.back() = 5000;
    std::vector<float> out(n * 4);
    EXPECT_EQ(table->LookupOrInsert(keys, out.data()).code(), StatusCode::kResourceExhausted);
    ExpectUnchanged(*table, rows, stats);
  }
  EXPECT_EQ(table->Stats().refused_by_capacity, stats.refused_by_capacity + 2);
}

TEST(TableHotTest, ATrainingLookupWithoutMemoryCountsNothing) {
  for (int64_t n = 0;; ++n) {
    ASSERT_LT(n, 200);
    auto table = Table::Create(Options(16)).value();
    Heat(table.get(), 3000);
    const auto rows = Contents(*table);
    const TableStats stats = table->Stats();
    std::vector<int64_t> keys = Iota(60000, -100);
    for (size_t i = 0; i < keys.size(); i += 3) keys[i] = static_cast<int64_t>(i % 200);
    std::vector<float> out(keys.size() * 16);
    PageAllocator::FailAllocation(n);
    const Status status = table->LookupOrInsert(keys, out.data());
    PageAllocator::FailAllocation(-1);
    if (status.ok()) {
      EXPECT_GT(n, 10);
      break;
    }
    ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
    ExpectUnchanged(*table, rows, stats);
    if (HasFatalFailure()) return;
    ASSERT_TRUE(table->LookupOrInsert(keys, out.data()).ok());  // and it goes on
    EXPECT_EQ(table->Stats().hits, stats.hits + 2000 + 20000);
  }
}

TEST(TableHotTest, HotRowsThatAreErasedCountNoMore) {
  auto table = Table::Create(Options(8)).value();
  Heat(table.get(), 1000);
  const int64_t before = table->Stats().hot_rows;
  EXPECT_LE(before, 200);
  EXPECT_GE(before, 150);
  ASSERT_EQ(table->Erase(Iota(200)).value(), 200);
  EXPECT_EQ(table->Stats().hot_rows, 0);
  std::vector<float> out(200 * 8, 5.0f);
  ASSERT_TRUE(table->Lookup(Iota(200), nullptr, out.data()).ok());
  EXPECT_EQ(std::count(out.begin(), out.end(), 0.0f), 200 * 8);
}

// Half of the keys are a hundred popular ones; then others become popular.
TEST(TableHotTest, TheHotRowsFollowADrift) {
  constexpr size_t kBatch = 8192;
  for (const bool train : {false, true}) {
    SCOPED_TRACE(train);
    auto table = Table::Create(Options(8)).value();
    std::mt19937_64 rng(7);
    std::vector<float> out(kBatch * 8);
    for (int64_t first = 0; first < 110'000; first += kBatch) {
      ASSERT_TRUE(table->LookupOrInsert(Iota(kBatch, first), out.data()).ok());
    }
    // The share of hot keys in so many batches.
    const auto share = [&](int64_t popular, int batches) {
      const int64_t before = table->Stats().hot_hits;
      for (int b = 0; b < batches; ++b) {
        std::vector<int64_t> keys(kBatch);
        for (int64_t& key : keys) {
          key = rng() % 2 == 0 ? popular + static_cast<int64_t>(rng() % 100)
                               : static_cast<int64_t>(rng() % 110'000);
        }
        const Status status = train ? table->LookupOrInsert(keys, out.data())
                                    : table->Lookup(keys, nullptr, out.data());
        EXPECT_TRUE(status.ok());
      }
      return static_cast<double>(table->Stats().hot_hits - before) / (kBatch * batches);
    };
    share(0, 1000);  // however long they were popular
    EXPECT_GT(share(0, 10), 0.4);
    EXPECT_LT(share(50'000, 10), 0.1);
    share(50'000, 110);
    EXPECT_GT(share(50'000, 10), 0.4);
  }
}

TEST(TableHotTest, GrowthLeavesHotRowsWhereTheyAre) {
  TableOptions options = Options(4);
  options.num_shards = 64;
  options.initializer.kind = InitializerKind::kUniform;
  auto on = Table::Create(options).value();
  options.use_hot = false;
  auto off = Table::Create(options).value();
  Heat(on.get(), 1000);
  std::vector<float> out(65536 * 4), expected(65536 * 4);
  ASSERT_TRUE(off->LookupOrInsert(Iota(1000), out.data()).ok());
  for (int64_t batch = 0; batch < 12; ++batch) {
    const auto fresh = Iota(65536, 1000 + 65536 * batch);
    ASSERT_TRUE(on->LookupOrInsert(fresh, out.data()).ok());
    ASSERT_TRUE(off->LookupOrInsert(fresh, expected.data()).ok());
    ASSERT_TRUE(out == expected);
    const TableStats before = on->Stats();
    ASSERT_TRUE(on->Lookup(Iota(1000), nullptr, out.data()).ok());
    ASSERT_TRUE(off->Lookup(Iota(1000), nullptr, expected.data()).ok());
    ASSERT_TRUE(std::equal(out.begin(), out.begin() + 4000, expected.begin()));
    // Of the 200 that were made hot; keys that the sampler saw twice by chance may be hot as well.
    EXPECT_GE(on->Stats().hot_hits - before.hot_hits, 180);
  }
  EXPECT_GT(on->Stats().growth_events, 100);
}

// Readers among trainers of both kinds and erasers: every row is whole, columns all alike.
TEST(TableHotTest, ReadersSeeWholeRows) {
  constexpr size_t kDim = 32, kBatch = 4096;
  TableOptions options = Options(kDim);
  options.initializer.kind = InitializerKind::kConstant;
  options.initializer.value = 0.5f;
  auto table = Table::Create(options).value();
  const int threads_before = NumThreads();
  ASSERT_TRUE(SetNumThreads(3).ok());
  Heat(table.get(), 2000);
  std::atomic<bool> stop{false};
  std::atomic<int64_t> read{0};
  const auto keys_of = [](std::mt19937_64* rng, int64_t first) {
    std::vector<int64_t> keys(kBatch);
    for (int64_t& key : keys) key = first + static_cast<int64_t>((*rng)() % ((*rng)() % 300 + 1));
    return keys;
  };
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&, t] {
      std::mt19937_64 rng(static_cast<uint64_t>(t));
      std::vector<float> out(kBatch * kDim);
      for (int round = 0; !stop; ++round) {
        // The hot set drifts, back and forth.
        const auto keys = keys_of(&rng, (round / 100) % 2 == 0 ? 0 : 200);
        ASSERT_TRUE(table->Lookup(keys, nullptr, out.data()).ok());
        for (size_t i = 0; i < kBatch; ++i) {
          const float* row = &out[i * kDim];
          ASSERT_TRUE(std::all_of(row, row + kDim, [&](float v) { return v == row[0]; }));
        }
        ++read;
        (void)table->Stats();
      }
    });
  }
  std::mt19937_64 rng(99);
  std::vector<float> out(kBatch * kDim), grads(kBatch * kDim), values(kBatch * kDim);
  for (int step = 0; step < 300 || (read < 600 && !HasFailure()); ++step) {
    const auto keys = keys_of(&rng, 0);
    for (size_t i = 0; i < kBatch; ++i) {
      std::fill_n(&grads[i * kDim], kDim, static_cast<float>(i % 7));
      std::fill_n(&values[i * kDim], kDim, static_cast<float>(step + static_cast<int>(i % 3)));
    }
    ApplyResult result;
    switch (step % 5) {
      case 0:
        ASSERT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
        break;
      case 1:
        ASSERT_TRUE(table->ApplyGradients(keys, grads.data(), 0.01f, &result).ok());
        break;
      case 2: {
        UniqueKeys unique;
        ASSERT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
        ASSERT_TRUE(table
                        ->ApplyToAddresses(unique.addresses, grads.data(), 0.01f,
                                           StaleAddress::kReject, &result)
                        .ok());
        break;
      }
      case 3:
        ASSERT_TRUE(table->Assign(keys, values.data()).ok());
        break;
      default:
        // Now and then from all shards at a time.
        ASSERT_TRUE(table->Erase(std::span(keys).first(step % 2 == 0 ? 50 : kBatch)).ok());
    }
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_GT(table->Stats().hot_hits, 0);
  ASSERT_TRUE(SetNumThreads(threads_before).ok());
}

}  // namespace
}  // namespace mxrec
