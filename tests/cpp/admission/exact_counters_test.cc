#include "admission/exact_counters.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "index/key_hash.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

constexpr uint64_t kEnd = uint64_t{1} << 32;
constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();

using Counts = std::map<int64_t, std::pair<uint32_t, uint32_t>>;  // count, time

RowBlock ScanAll(const KeyCounters& counters, std::optional<uint32_t> cutoff = std::nullopt) {
  RowBlock block;
  for (uint64_t position = 0; position < kEnd;) counters.Scan(cutoff, &position, &block);
  return block;
}

Counts CountsOf(const RowBlock& block) {
  Counts counts;
  for (size_t i = 0; i < block.size(); ++i) {
    EXPECT_TRUE(
        counts.emplace(block.keys[i], std::pair(block.frequency[i], block.last_time[i])).second);
  }
  return counts;
}

bool Count(ExactCounters* counters, int64_t key, uint32_t more, uint32_t time) {
  bool fresh;
  const uint64_t hash = HashKey(key);
  const uint32_t place = counters->Reserve(hash, key, &fresh);
  if (place == KeyCounters::kNothing) return false;
  counters->Commit(hash, key, place, more, time);
  return true;
}

// Random operations on counters and on a map.
class Sequence {
 public:
  explicit Sequence(uint64_t seed) : rng_(seed), counters_(&pages_, 0) {
    universe_ = rng_() % 3 == 0 ? 40'000 : 50;
  }

  void Run() {
    for (int step = 0; step < 60 && !::testing::Test::HasFatalFailure(); ++step) {
      const size_t n = universe_ > 1000 ? rng_() % 5000 : rng_() % 20;
      const uint64_t action = rng_() % 10;
      for (size_t i = 0; i < n && !::testing::Test::HasFatalFailure(); ++i) Do(action, Key());
      if (action == 9) Sweep();
      ASSERT_EQ(counters_.keys(), static_cast<int64_t>(model_.size()));
    }
    ASSERT_EQ(CountsOf(ScanAll(counters_)), model_);
    for (const auto& [key, count] : Counts(model_)) counters_.Forget(HashKey(key), key);
    ASSERT_EQ(counters_.keys(), 0);
    // An empty index keeps one segment, on small pages.
    ASSERT_LE(counters_.page_bytes(), static_cast<int64_t>(KeyIndex::kSegmentBytes));
  }

 private:
  int64_t Key() {
    const auto n = static_cast<int64_t>(rng_() % universe_);
    return n < 3 ? std::numeric_limits<int64_t>::min() + n : n;
  }
  void Do(uint64_t action, int64_t key) {
    const uint64_t hash = HashKey(key);
    const auto known = model_.find(key);
    if (action < 6) {
      const uint32_t more = rng_() % 50 == 0 ? kMost - 3 : 1 + static_cast<uint32_t>(rng_() % 3);
      const auto time = static_cast<uint32_t>(rng_() % 1000);
      bool fresh;
      const uint32_t place = counters_.Reserve(hash, key, &fresh);
      ASSERT_NE(place, KeyCounters::kNothing);
      ASSERT_EQ(fresh, known == model_.end());
      if (fresh && rng_() % 4 == 0) {
        counters_.Forget(hash, key);  // the batch failed
        ASSERT_EQ(counters_.Peek(hash, key).count, 0u);
        return;
      }
      counters_.Commit(hash, key, place, more, time);
      auto& [count, last] = model_[key];
      count = AddSaturating(count, more);
      last = std::max(last, time);
    } else if (action == 6) {
      counters_.Forget(hash, key);
      model_.erase(key);
    }
    const KeyCount seen = counters_.Peek(hash, key);
    const auto now = model_.find(key);
    ASSERT_EQ(seen.count, now == model_.end() ? 0 : now->second.first);
    ASSERT_EQ(seen.last_time, now == model_.end() ? 0 : now->second.second);
  }
  void Sweep() {
    const auto cutoff = static_cast<uint32_t>(rng_() % 1000);
    std::set<int64_t> reprieved;
    for (const auto& [key, count] : model_) {
      if (rng_() % 4 != 0) continue;
      reprieved.insert(key);
      counters_.Reprieve(HashKey(key), key);
    }
    Counts left;
    for (const auto& [key, count] : model_) {
      const bool old = count.second <= cutoff && !reprieved.contains(key);
      ASSERT_EQ(counters_.Old(HashKey(key), key, cutoff), old);
      if (!old) left.emplace(key, count);
    }
    ASSERT_EQ(CountsOf(ScanAll(counters_, cutoff)), left);
    const int64_t before = counters_.keys();
    int64_t seen = 0;
    for (uint64_t position = 0; position < kEnd;)
      seen += counters_.ForgetOld(cutoff, &position, nullptr);
    ASSERT_EQ(seen, before);
    counters_.EndSweep();
    model_ = left;
    for (const auto& [key, count] : model_) {
      ASSERT_EQ(counters_.Old(HashKey(key), key, cutoff), count.second <= cutoff);
    }
  }

  std::mt19937_64 rng_;
  uint64_t universe_;
  PageAllocator pages_;
  ExactCounters counters_;
  Counts model_;
};

TEST(ExactCountersTest, RandomOperationsEqualAMap) {
  MXREC_TRACE_SEED();
  for (uint64_t i = 0; i < 20; ++i) {
    Sequence(testing::TestSeed() + i).Run();
    if (HasFatalFailure()) FAIL() << "sequence " << i;
  }
}

TEST(ExactCountersTest, TakesAtMost32BytesAKey) {
  PageAllocator pages;
  ExactCounters counters(&pages, 0);
  constexpr int64_t kKeys = 1'000'000;
  for (int64_t key = 0; key < kKeys; ++key) ASSERT_TRUE(Count(&counters, key, 1, 1));
  EXPECT_LE(counters.bytes(), 32 * kKeys);
  EXPECT_LE(pages.held_bytes(), 32 * kKeys);
  EXPECT_LE(counters.page_bytes(), pages.held_bytes());
  std::printf("%.1f bytes a key\n", static_cast<double>(counters.bytes()) / kKeys);
}

TEST(ExactCountersTest, ForgettingGivesMemoryBack) {
  PageAllocator pages;
  ExactCounters counters(&pages, 0);
  constexpr int64_t kKeys = 500'000;
  for (int64_t key = 0; key < kKeys; ++key) ASSERT_TRUE(Count(&counters, key, 1, 1));
  const int64_t full = counters.bytes();
  for (int64_t key = kKeys / 10; key < kKeys; ++key) counters.Forget(HashKey(key), key);
  EXPECT_LE(counters.bytes(), full / 4);
  // Places that were freed serve again.
  for (int64_t key = kKeys; key < 2 * kKeys - kKeys / 10; ++key) {
    ASSERT_TRUE(Count(&counters, key, 1, 1));
  }
  EXPECT_LE(counters.bytes(), full + full / 20);
  for (int64_t key = 0; key < 2 * kKeys; ++key) counters.Forget(HashKey(key), key);
  EXPECT_LE(counters.page_bytes(), static_cast<int64_t>(KeyIndex::kSegmentBytes));
}

TEST(ExactCountersTest, ScanAndLoadKeepEveryCount) {
  PageAllocator pages;
  ExactCounters counters(&pages, 0);
  std::mt19937_64 rng(testing::TestSeed());
  MXREC_TRACE_SEED();
  for (int i = 0; i < 30'000; ++i) {
    ASSERT_TRUE(Count(&counters, static_cast<int64_t>(rng()), 1 + static_cast<uint32_t>(rng() % 9),
                      static_cast<uint32_t>(rng())));
  }
  const RowBlock saved = ScanAll(counters);
  EXPECT_EQ(saved.size(), 30'000u);
  ExactCounters loaded(&pages, 0);
  for (size_t i = 0; i < saved.size(); ++i) {
    ASSERT_EQ(loaded.Load(saved, i, false), KeyCounters::Loaded::kDone);
  }
  EXPECT_EQ(loaded.Load(saved, 5, false), KeyCounters::Loaded::kTwice);
  EXPECT_EQ(CountsOf(ScanAll(loaded)), CountsOf(saved));
}

TEST(ExactCountersTest, NoMemoryChangesNothing) {
  PageAllocator pages;
  ExactCounters counters(&pages, 0);
  // Both of the first allocations, and those of later splits and slabs.
  int64_t next = 0;
  for (int round = 0; round < 24; ++round) {
    PageAllocator::FailAllocation(round % 2);
    while (Count(&counters, next, 2, 7)) ++next;
    PageAllocator::FailAllocation(-1);
    ASSERT_EQ(counters.Peek(HashKey(next), next).count, 0u);
    ASSERT_EQ(counters.keys(), next);
    ASSERT_TRUE(Count(&counters, next++, 2, 7));
  }
  EXPECT_GT(next, 10'000);
  const RowBlock all = ScanAll(counters);
  ASSERT_EQ(CountsOf(all).size(), static_cast<size_t>(next));
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(all.frequency[i], 2u);
    ASSERT_EQ(all.last_time[i], 7u);
  }
}

}  // namespace
}  // namespace mxrec
