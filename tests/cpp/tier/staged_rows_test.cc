// Rows that are read ahead: who reads, who waits, and what makes room.
#include "tier/staged_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

namespace mxrec {
namespace {

using Keys = std::vector<int64_t>;
using Flags = std::vector<uint8_t>;

class StagedRowsTest : public ::testing::Test {
 protected:
  static constexpr size_t kMost = 8;

  Flags Begin(const Keys& keys) {
    Flags mine(keys.size(), 7);
    staged_.Begin(keys, mine);
    return mine;
  }
  // Values that tell the key and the time.
  void Put(const Keys& keys, int64_t value) {
    std::vector<int64_t> values(keys.size());
    std::vector<StagedRows::In> in;
    for (size_t i = 0; i < keys.size(); ++i) {
      values[i] = keys[i] * 100 + value;
      in.push_back({keys[i], &values[i]});
    }
    staged_.Put(in);
  }
  void Stage(const Keys& keys, int64_t value = 0) {
    const Flags mine = Begin(keys);
    Put(keys, value);
    staged_.Finish(keys, mine);
  }
  // Of each key, its value; -1: it is not there.
  std::vector<int64_t> Copy(const Keys& keys) {
    std::vector<int64_t> values(keys.size(), -1);
    std::vector<StagedRows::Out> out;
    for (size_t i = 0; i < keys.size(); ++i) out.push_back({keys[i], &values[i]});
    Flags copied(keys.size(), 7);
    staged_.Copy(out, copied);
    for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(copied[i] != 0, values[i] != -1);
    return values;
  }

  PageAllocator pages_;
  StagedRows staged_{&pages_, sizeof(int64_t), kMost};
};

TEST_F(StagedRowsTest, RowsAreCopiedUntilTheyAreDropped) {
  EXPECT_EQ(Copy({1, 2}), (std::vector<int64_t>{-1, -1}));
  Stage({1, 2, 3}, 5);
  EXPECT_EQ(staged_.size(), 3);
  EXPECT_EQ(Copy({3, 4, 1, 3}), (std::vector<int64_t>{305, -1, 105, 305}));
  staged_.Drop(Keys{3, 4});
  EXPECT_EQ(staged_.size(), 2);
  EXPECT_EQ(Copy({3, 1}), (std::vector<int64_t>{-1, 105}));
}

TEST_F(StagedRowsTest, ARowIsReadByOne) {
  EXPECT_EQ(Begin({1, 2, 1}), (Flags{1, 1, 0}));
  EXPECT_EQ(Begin({2, 3}), (Flags{0, 1})) << "on its way";
  Put({1, 2, 3}, 0);
  EXPECT_EQ(Begin({1, 4}), (Flags{0, 1})) << "here";
}

TEST_F(StagedRowsTest, WhatHasLeftSsdMeanwhileIsNotStaged) {
  const Keys keys = {1, 2};
  const Flags mine = Begin(keys);
  staged_.Drop(Keys{2});
  Put(keys, 0);
  staged_.Finish(keys, mine);
  EXPECT_EQ(Copy(keys), (std::vector<int64_t>{100, -1}));
  EXPECT_EQ(staged_.size(), 1);
}

TEST_F(StagedRowsTest, TheRowsThatHaveWaitedLongestMakeRoom) {
  Stage({0, 1, 2, 3, 4, 5});
  staged_.Drop(Keys{1});
  Stage({6, 7, 8, 9, 10});
  EXPECT_EQ(staged_.size(), kMost);
  EXPECT_EQ(Copy({0, 2, 3, 10}), (std::vector<int64_t>{-1, -1, 300, 1000}));
}

TEST_F(StagedRowsTest, ACopyWaitsForItsOwnRowsOnly) {
  const Keys keys = {1, 2, 3, 4};
  const Flags mine = Begin(keys);
  std::atomic<bool> copied{false};
  std::thread waiter([&] {
    EXPECT_EQ(Copy({2, 9, 1}), (std::vector<int64_t>{201, -1, 101}));
    copied = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(copied);
  Put({1, 2}, 1);
  // 3 and 4 are still being read.
  waiter.join();
  staged_.Finish(keys, mine);
  EXPECT_EQ(Copy({3, 4}), (std::vector<int64_t>{-1, -1}));
}

TEST_F(StagedRowsTest, ACopyDoesNotWaitForAFewRowsOfALaterBatch) {
  PageAllocator pages;
  StagedRows staged(&pages, sizeof(int64_t), 100);
  Keys keys, values(20, -1);
  std::vector<StagedRows::In> in;
  std::vector<StagedRows::Out> out;
  for (int64_t key = 0; key < 20; ++key) keys.push_back(key);
  for (size_t i = 0; i < keys.size(); ++i) {
    out.push_back({keys[i], &values[i]});
    if (i > 0) in.push_back({keys[i], &keys[i]});
  }
  Flags mine(keys.size()), copied(keys.size());
  staged.Begin(keys, mine);
  staged.Put(in);  // 0 is still being read
  staged.Copy(out, copied);
  EXPECT_EQ(copied[0], 0);
  EXPECT_EQ(std::ranges::count(copied, 1), 19);
  staged.Drop(keys);
  staged.Put(std::vector<StagedRows::In>{{0, keys.data()}});
  staged.Finish(keys, mine);
  EXPECT_EQ(staged.size(), 0) << "the batch has it";
}

TEST_F(StagedRowsTest, ACopyDoesNotWaitForAReadThatFailed) {
  const Keys keys = {1, 2};
  const Flags mine = Begin(keys);
  EXPECT_EQ(Begin({2}), (Flags{0}));
  std::thread waiter([&] { EXPECT_EQ(Copy({1, 2}), (std::vector<int64_t>{-1, -1})); });
  staged_.Finish(Keys{2}, Flags{0});  // another's
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  staged_.Finish(keys, mine);
  waiter.join();
  EXPECT_EQ(staged_.size(), 0);
}

TEST_F(StagedRowsTest, WithoutMemoryNothingIsBegun) {
  Keys keys(20'000);  // more segments of the index than one
  std::iota(keys.begin(), keys.end(), 0);
  Flags mine(keys.size(), 7);
  for (int64_t allocation = 0;; ++allocation) {
    ASSERT_LT(allocation, 100);
    PageAllocator::FailAllocation(allocation);
    const auto failed = [&] {
      try {
        staged_.Begin(keys, mine);
        return false;
      } catch (const std::bad_alloc&) {
        return true;
      }
    }();
    PageAllocator::FailAllocation(-1);
    EXPECT_EQ(staged_.size(), static_cast<size_t>(std::ranges::count(mine, 1)));
    staged_.Finish(keys, mine);
    EXPECT_EQ(staged_.size(), 0);
    if (!failed) break;
  }
  Stage({1, 2}, 3);
  EXPECT_EQ(Copy({1, 2}), (std::vector<int64_t>{103, 203}));
}

// Many readers and takers: who copies a row gets the values that were put for it.
TEST_F(StagedRowsTest, ReadersAndTakersMeet) {
  PageAllocator pages;
  StagedRows staged(&pages, sizeof(int64_t), 64);
  constexpr int64_t kKeys = 512, kPart = 32;
  const auto read = [&](int64_t first) {
    for (int64_t key = first; key + kPart <= kKeys; key += kPart / 2) {
      Keys keys;
      for (int64_t i = 0; i < kPart; ++i) keys.push_back(key + i);
      Flags mine(keys.size());
      staged.Begin(keys, mine);
      std::vector<StagedRows::In> in;
      for (size_t i = 0; i < keys.size(); ++i) {
        if (mine[i] != 0 && keys[i] % 7 != 0) in.push_back({keys[i], &keys[i]});
      }
      staged.Put(in);
      staged.Finish(keys, mine);
    }
  };
  const auto take = [&] {
    for (int64_t key = 0; key < kKeys; key += kPart) {
      Keys keys, values(kPart, -1);
      std::vector<StagedRows::Out> out;
      for (int64_t i = 0; i < kPart; ++i) {
        keys.push_back(key + i);
        out.push_back({key + i, &values[static_cast<size_t>(i)]});
      }
      Flags copied(keys.size());
      staged.Copy(out, copied);
      for (size_t i = 0; i < keys.size(); ++i) {
        if (copied[i] == 0) continue;
        EXPECT_EQ(values[i], keys[i]);
        EXPECT_NE(keys[i] % 7, 0);
      }
      staged.Drop(keys);
    }
  };
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    threads.emplace_back(read, 0);
    threads.emplace_back(read, kPart / 4);
    threads.emplace_back(take);
    threads.emplace_back(take);
    for (std::thread& thread : threads) thread.join();
    EXPECT_LE(staged.size(), 64);
  }
}

}  // namespace
}  // namespace mxrec
