#include "util/mutex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace mxrec {
namespace {

using std::chrono::steady_clock;

TEST(Mutex, AConditionWaitsUntilThenAndHoldsTheLockAgain) {
  Mutex mu;
  Condition condition;
  const MutexLock lock(mu);
  const auto end = steady_clock::now() + std::chrono::milliseconds(20);
  while (condition.WaitUntil(mu, end)) {  // woken without a cause
  }
  EXPECT_GE(steady_clock::now(), end);
  bool taken = true;
  std::thread([&] { taken = mu.try_lock(); }).join();
  EXPECT_FALSE(taken);
}

TEST(Mutex, AConditionIsWokenBeforeItsTime) {
  Mutex mu;
  Condition condition;
  bool set = false;
  std::thread other([&] {
    const MutexLock lock(mu);
    set = true;
    condition.NotifyOne();
  });
  {
    const MutexLock lock(mu);
    const auto end = steady_clock::now() + std::chrono::seconds(60);
    while (!set && condition.WaitUntil(mu, end)) {
    }
    EXPECT_TRUE(set);
    EXPECT_LT(steady_clock::now(), end);
  }
  other.join();
}

TEST(Mutex, ALockThatWasTakenOverIsReleased) {
  Mutex mu;
  ASSERT_TRUE(mu.try_lock());
  { const MutexLock lock(mu, std::adopt_lock); }
  ASSERT_TRUE(mu.try_lock());
  mu.unlock();
}

}  // namespace
}  // namespace mxrec
