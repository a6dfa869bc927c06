#include "batch/prepared_batches.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace mxrec {
namespace {

KeyBatch::Ptr Batch(KeySpan keys) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, 0, KeyBatch::Grouping::kKeys);
  batch->Deduplicate(0);
  batch->distinct = batch->Number();
  return batch;
}

std::vector<int64_t> Keys(int64_t first, size_t n) {
  std::vector<int64_t> keys(n);
  std::iota(keys.begin(), keys.end(), first);
  return keys;
}

TEST(PreparedBatchesTest, GivesABatchOnceAndToItsKeysOnly) {
  PreparedBatches batches;
  const std::vector<int64_t> keys = {5, 7, 5};
  batches.Put(keys, Batch(keys));
  EXPECT_EQ(batches.Take(std::vector<int64_t>{5, 5, 7}), nullptr);
  EXPECT_EQ(batches.Take(std::vector<int64_t>{5, 7}), nullptr);
  EXPECT_EQ(batches.Take(std::vector<int64_t>()), nullptr);
  const KeyBatch::Ptr taken = batches.Take(keys);
  ASSERT_NE(taken, nullptr);
  EXPECT_EQ(taken->distinct, 2u);
  EXPECT_EQ(batches.Take(keys), nullptr);
  EXPECT_EQ(batches.taken(), 1);
  EXPECT_EQ(batches.size(), 0u);
}

// The bytes of two int32 keys are those of one int64.
TEST(PreparedBatchesTest, WidthsOfKeysAreToldApart) {
  PreparedBatches batches;
  const std::vector<int32_t> narrow = {1, 0};
  batches.Put(narrow, Batch(narrow));
  EXPECT_EQ(batches.Take(std::vector<int64_t>{1}), nullptr);
  EXPECT_NE(batches.Take(narrow), nullptr);
}

TEST(PreparedBatchesTest, AnEmptyBatchIsABatch) {
  PreparedBatches batches;
  const std::vector<int64_t> none;
  EXPECT_EQ(batches.Take(none), nullptr);
  batches.Put(none, Batch(none));
  EXPECT_NE(batches.Take(none), nullptr);
}

TEST(PreparedBatchesTest, TheOldestGoWhereThereAreTooMany) {
  PreparedBatches batches;
  const auto most = static_cast<int64_t>(PreparedBatches::kMostBatches);
  for (int64_t i = 0; i < most + 3; ++i) {
    const std::vector<int64_t> keys = {i};
    batches.Put(keys, Batch(keys));
  }
  EXPECT_EQ(batches.size(), PreparedBatches::kMostBatches);
  EXPECT_EQ(batches.dropped(), 3);
  EXPECT_EQ(batches.Take(std::vector<int64_t>{2}), nullptr);
  EXPECT_NE(batches.Take(std::vector<int64_t>{3}), nullptr);
}

TEST(PreparedBatchesTest, TheOldestGoWhereTheyAreTooLarge) {
  PreparedBatches batches;
  constexpr size_t kHalf = PreparedBatches::kMostKeys / 2;
  const auto first = Keys(0, kHalf), second = Keys(1, kHalf), third = Keys(2, 1);
  batches.Put(first, Batch(first));
  batches.Put(second, Batch(second));
  EXPECT_EQ(batches.dropped(), 0);
  batches.Put(third, Batch(third));
  EXPECT_EQ(batches.dropped(), 1);
  EXPECT_EQ(batches.Take(first), nullptr);
  EXPECT_NE(batches.Take(second), nullptr);
  EXPECT_NE(batches.Take(third), nullptr);
}

TEST(PreparedBatchesTest, ManyThreads) {
  PreparedBatches batches;
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = 0; i < 200; ++i) {
        const std::vector<int64_t> keys = {t, i};
        batches.Put(keys, Batch(keys));
        EXPECT_NE(batches.Take(keys), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(batches.taken(), 800);
  EXPECT_EQ(batches.size(), 0u);
}

}  // namespace
}  // namespace mxrec
