#include "index/key_index.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <random>
#include <unordered_map>

namespace mxrec {
namespace {

uint64_t Seed() {
  const char* replay = std::getenv("MXREC_TEST_SEED");
  const uint64_t seed = replay ? std::strtoull(replay, nullptr, 10) : 20261123;
  std::printf("MXREC_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

TEST(KeyIndexTest, EmptyFindsNothing) {
  PageAllocator pages;
  KeyIndex index(&pages, 0);
  EXPECT_EQ(index.Find(HashKey(0), 0), kNoRow);
  EXPECT_EQ(index.Erase(HashKey(0), 0), kNoRow);
  EXPECT_EQ(index.segments(), 0);
}

TEST(KeyIndexTest, EveryKeyIsValid) {
  PageAllocator pages;
  KeyIndex index(&pages, 3);
  const int64_t keys[] = {0, -1, 1, std::numeric_limits<int64_t>::min(),
                          std::numeric_limits<int64_t>::max()};
  RowRef next = 0;
  for (int64_t k : keys) ASSERT_TRUE(index.Insert(HashKey(k), k, next++));
  next = 0;
  for (int64_t k : keys) EXPECT_EQ(index.Find(HashKey(k), k), next++);
}

TEST(KeyIndexTest, RandomInsertsAndErasesEqualAMap) {
  std::mt19937_64 rng(Seed());
  PageAllocator pages;
  KeyIndex index(&pages, 1);
  std::unordered_map<int64_t, RowRef> model;
  std::vector<int64_t> inserted;
  for (RowRef i = 0; i < 300000; ++i) {
    if (rng() % 4 == 0 && !inserted.empty()) {
      const int64_t k = inserted[rng() % inserted.size()];
      const auto it = model.find(k);
      const RowRef expected = it == model.end() ? kNoRow : it->second;
      ASSERT_EQ(index.Erase(HashKey(k), k), expected);
      if (it != model.end()) model.erase(it);
    } else {
      const auto k = static_cast<int64_t>(rng() % 400000);
      if (model.contains(k)) continue;
      ASSERT_TRUE(index.Insert(HashKey(k), k, i));
      model[k] = i;
      inserted.push_back(k);
    }
  }
  ASSERT_EQ(index.size(), model.size());
  for (int64_t k = 0; k < 400000; ++k) {
    const auto it = model.find(k);
    ASSERT_EQ(index.Find(HashKey(k), k), it == model.end() ? kNoRow : it->second) << k;
  }
  // A visit meets every key once.
  std::unordered_map<int64_t, RowRef> visited;
  for (uint64_t p = 0; p < (uint64_t{1} << 32);) {
    const uint64_t next = index.VisitSegment(
        p, [&](int64_t k, RowRef r) { ASSERT_TRUE(visited.emplace(k, r).second); });
    ASSERT_GT(next, p);
    p = next;
  }
  EXPECT_EQ(visited, model);
}

// Splits must not come in waves: while the table doubles, each twentieth of the growth splits no
// more than a small share of the segments.
TEST(KeyIndexTest, SplitsAreSpreadOverGrowth) {
  PageAllocator pages;
  KeyIndex index(&pages, 0);
  int64_t k = 0;
  for (; k < 500000; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
  double worst = 0;
  for (int step = 0; step < 20; ++step) {
    const int64_t splits = index.splits();
    const double segments = static_cast<double>(index.segments());
    for (const int64_t end = k + 25000; k < end; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
    worst = std::max(worst, static_cast<double>(index.splits() - splits) / segments);
  }
  EXPECT_LT(worst, 0.15);  // all at once would be 1.0; a perfectly even spread 0.05
  const double load = 1e6 / (static_cast<double>(index.segments()) * KeyIndex::kSegmentEntries);
  EXPECT_GT(load, 0.55);
  EXPECT_LT(static_cast<double>(index.bytes()) / 1e6, 24.0);  // bytes per key
}

TEST(KeyIndexTest, SplitsAreTimed) {
  PageAllocator pages;
  KeyIndex index(&pages, 0);
  int64_t k = 0;
  for (; k < KeyIndex::kSplitAt; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
  EXPECT_EQ(index.splits(), 0);
  EXPECT_EQ(index.split_nanos(), 0);
  EXPECT_EQ(index.longest_split_nanos(), 0);
  const auto begin = std::chrono::steady_clock::now();
  for (; k < 200000; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
  const int64_t all = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
  ASSERT_GT(index.splits(), 20);
  EXPECT_GT(index.longest_split_nanos(), 0);
  EXPECT_GT(index.split_nanos(), index.longest_split_nanos());
  EXPECT_LE(index.split_nanos(), index.splits() * index.longest_split_nanos());
  EXPECT_LT(index.split_nanos(), all);
}

TEST(KeyIndexTest, WhatIsReservedNeedsNoSplitAndNoMoreMemory) {
  for (const int64_t keys : {1, 1000, 100'000, 437'000}) {
    PageAllocator pages;
    KeyIndex reserved(&pages, 2), grown(&pages, 2);
    ASSERT_TRUE(reserved.Reserve(static_cast<uint64_t>(keys)));
    EXPECT_EQ(reserved.size(), 0u);
    EXPECT_EQ(reserved.Find(HashKey(7), 7), kNoRow);
    for (int64_t k = 0; k < keys; ++k) {
      ASSERT_TRUE(reserved.Insert(HashKey(k), k, static_cast<RowRef>(k)));
      ASSERT_TRUE(grown.Insert(HashKey(k), k, static_cast<RowRef>(k)));
    }
    // Nearly: segments fill a little unevenly.
    EXPECT_LE(reserved.splits(), reserved.segments() / 10);
    EXPECT_LE(reserved.segments(), grown.segments() * 11 / 10 + 1);
    for (int64_t k = 0; k < keys; ++k) {
      ASSERT_EQ(reserved.Find(HashKey(k), k), static_cast<RowRef>(k));
    }
    ASSERT_TRUE(reserved.Reserve(1 << 20)) << "there are keys";
    for (int64_t k = 0; k < keys; ++k) ASSERT_EQ(reserved.Erase(HashKey(k), k), k);
    EXPECT_EQ(reserved.segments(), 1);
  }
}

TEST(KeyIndexTest, SparseSegmentsMerge) {
  for (int shard_bits : {0, 3}) {
    PageAllocator pages;
    KeyIndex index(&pages, shard_bits);
    constexpr int64_t kKeys = 200000;
    for (int64_t k = 0; k < kKeys; ++k) {
      ASSERT_TRUE(index.Insert(HashKey(k), k, static_cast<RowRef>(k)));
    }
    const int64_t full = index.segments();
    for (int64_t k = 0; k < kKeys; ++k) {
      if (k % 10 != 0) {
        ASSERT_EQ(index.Erase(HashKey(k), k), static_cast<RowRef>(k));
      }
    }
    EXPECT_LE(index.segments(), full / 3);
    // In whole pages, because merged segments move together.
    EXPECT_LE(pages.held_bytes(),
              index.segments() * static_cast<int64_t>(KeyIndex::kSegmentBytes) * 3 / 2 +
                  static_cast<int64_t>(kHugePage));
    for (int64_t k = 0; k < kKeys; ++k) {
      ASSERT_EQ(index.Find(HashKey(k), k), k % 10 == 0 ? static_cast<RowRef>(k) : kNoRow) << k;
    }
    for (int64_t k = 0; k < kKeys; k += 10) ASSERT_NE(index.Erase(HashKey(k), k), kNoRow);
    EXPECT_EQ(index.segments(), 1);
    EXPECT_EQ(index.size(), 0u);
    for (int64_t k = 0; k < kKeys; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 1));
    EXPECT_EQ(index.segments(), full);
  }
}

// A key that stays is visited once although segments split and merge between the visits.
TEST(KeyIndexTest, VisitsMeetKeysOnceWhileSegmentsSplitAndMerge) {
  std::mt19937_64 rng(Seed());
  for (int round = 0; round < 20; ++round) {
    PageAllocator pages;
    KeyIndex index(&pages, 0);
    constexpr int64_t kStay = 3000;
    const int64_t others = 60000;
    for (int64_t k = 0; k < kStay; ++k) ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
    bool there = false;
    const auto flip = [&] {
      for (int64_t k = kStay; k < kStay + others; ++k) {
        if (there) {
          ASSERT_NE(index.Erase(HashKey(k), k), kNoRow);
        } else {
          ASSERT_TRUE(index.Insert(HashKey(k), k, 0));
        }
      }
      there = !there;
    };
    if (rng() % 2) flip();
    std::unordered_map<int64_t, int> visits;
    for (uint64_t p = 0; p < (uint64_t{1} << 32);) {
      p = index.VisitSegment(p, [&](int64_t k, RowRef) { ++visits[k]; });
      if (rng() % 4 == 0) flip();
    }
    for (int64_t k = 0; k < kStay; ++k) ASSERT_EQ(visits[k], 1) << k;
  }
}

TEST(KeyIndexTest, FailedAllocationChangesNothing) {
  PageAllocator pages;
  KeyIndex index(&pages, 0);
  int64_t k = 0;
  while (index.size() < KeyIndex::kSplitAt) {
    ASSERT_TRUE(index.Insert(HashKey(k), k, static_cast<RowRef>(k)));
    ++k;
  }
  PageAllocator::FailAllocation(0);
  EXPECT_FALSE(index.Insert(HashKey(k), k, 1));
  EXPECT_EQ(index.size(), KeyIndex::kSplitAt);
  for (int64_t i = 0; i < k; ++i) ASSERT_EQ(index.Find(HashKey(i), i), static_cast<RowRef>(i));
  EXPECT_TRUE(index.Insert(HashKey(k), k, 1));
}

}  // namespace
}  // namespace mxrec
