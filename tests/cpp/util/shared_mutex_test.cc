#include "util/shared_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace mxrec {
namespace {

TEST(SharedMutexTest, WritersAreAloneAndReadersTogether) {
  SharedMutex mu;
  mu.lock_shared();
  EXPECT_TRUE(mu.try_lock_shared());
  EXPECT_FALSE(mu.try_lock());
  mu.unlock_shared();
  mu.unlock_shared();
  EXPECT_TRUE(mu.try_lock());
  EXPECT_FALSE(mu.try_lock_shared());
  EXPECT_FALSE(mu.try_lock());
  mu.unlock();
}

TEST(SharedMutexTest, ManyThreadsKeepTheInvariant) {
  SharedMutex mu;
  int64_t value = 0;
  std::atomic<int64_t> seen{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        std::unique_lock lock(mu);
        ++value;
      }
    });
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        std::shared_lock lock(mu);
        seen += value >= 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value, 60000);
  EXPECT_EQ(seen, 60000);
}

// `steady` threads of one side take turns so that one of them always wants the lock; the other side
// must get it all the same.
template <class Steady, class Other>
void OtherSideGetsIn(int steady, Steady steady_turn, Other other_turn) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < steady; ++t) {
    threads.emplace_back([&] {
      while (!stop) steady_turn();
    });
  }
  for (int i = 0; i < 200; ++i) other_turn();  // would not end
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(SharedMutexTest, ReadersDoNotKeepWritersOut) {
  SharedMutex mu;
  OtherSideGetsIn(
      4, [&] { std::shared_lock lock(mu); }, [&] { std::unique_lock lock(mu); });
}

TEST(SharedMutexTest, WritersDoNotKeepReadersOut) {
  SharedMutex mu;
  OtherSideGetsIn(
      4, [&] { std::unique_lock lock(mu); }, [&] { std::shared_lock lock(mu); });
}

TEST(SharedMutexTest, LocksOfABlockEndWithItOrBefore) {
  SharedMutex mu;
  {
    SharedLock shared(mu);
    EXPECT_FALSE(mu.try_lock());
    ASSERT_TRUE(mu.try_lock_shared());
    mu.unlock_shared();
    shared.unlock();
    ExclusiveLock exclusive(mu);
    EXPECT_FALSE(mu.try_lock_shared());
    exclusive.unlock();
    const ExclusiveLock until_the_end(mu);
    SameLock(mu, mu);
  }
  { const SharedLock until_the_end(mu); }
  ASSERT_TRUE(mu.try_lock());
  mu.unlock();
}

#if defined(MXREC_CHECK_LOCK_ORDER)
TEST(SharedMutexTest, TwoLocksAreNotTakenForOne) {
  SharedMutex one, other;
  EXPECT_DEATH(SameLock(one, other), "what was taken for one lock are two");
  EXPECT_DEATH(SameLockShared(one, other), "what was taken for one lock are two");
}

TEST(SharedMutexTest, LocksAreTakenInTheOrderOfTheirRanks) {
  SharedMutex low(1), high(2), unranked;
  {
    const std::shared_lock first(low);
    const std::unique_lock second(high);
    const std::shared_lock third(unranked);
  }
  // Of any kind, released in any order, tried or waited for.
  std::shared_lock held(high);
  EXPECT_DEATH(low.lock(), "takes rank 1 while it holds rank 2");
  EXPECT_DEATH(low.lock_shared(), "takes rank 1 while it holds rank 2");
  EXPECT_DEATH(high.lock_shared(), "takes rank 2 while it holds rank 2");
  EXPECT_DEATH(low.unlock(), "releases rank 1, which it does not hold");
  held.unlock();
  const std::shared_lock again(low);
  high.lock();
  high.unlock();
}
#endif

}  // namespace
}  // namespace mxrec
