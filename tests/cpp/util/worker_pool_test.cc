#include "util/worker_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace mxrec {
namespace {

class WorkerPoolTest : public ::testing::Test {
 protected:
  ~WorkerPoolTest() override {
    pool_.Bind(false);
    pool_.SetNumThreads(threads_);
  }

  WorkerPool& pool_ = WorkerPool::Get();
  const int threads_ = pool_.num_threads();
};

// How many tasks run at a time, at most.
class Crowd {
 public:
  void Visit() {
    const int here = ++inside_;
    for (int most = most_; here > most && !most_.compare_exchange_weak(most, here);) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    --inside_;
  }
  int most() const { return most_; }

 private:
  std::atomic<int> inside_{0};
  std::atomic<int> most_{0};
};

int Processors() {
  cpu_set_t set;
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  return CPU_COUNT(&set);
}

TEST_F(WorkerPoolTest, EveryTaskRunsOnce) {
  for (const int threads : {1, 2, 5}) {
    pool_.SetNumThreads(threads);
    for (const size_t tasks : {size_t{0}, size_t{1}, size_t{7}, size_t{1000}}) {
      std::vector<std::atomic<int>> runs(tasks);
      pool_.Run(tasks, [&](size_t i) { ++runs[i]; });
      EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
    }
  }
}

TEST_F(WorkerPoolTest, RangesCoverTheWholeOnce) {
  pool_.SetNumThreads(3);
  std::vector<std::atomic<int>> runs(10'000);
  pool_.RunRanges(runs.size(), 100, [&](size_t begin, size_t end) {
    EXPECT_GE(end - begin, 100u);
    for (size_t i = begin; i < end; ++i) ++runs[i];
  });
  EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
}

// Callers at the same time, as TensorFlow's threads are, do not bring as many workers each.
TEST_F(WorkerPoolTest, CallersShareTheThreads) {
  constexpr int kThreads = 4;
  pool_.SetNumThreads(kThreads);
  for (const int callers : {1, 2, 4, 6}) {
    Crowd crowd;
    std::vector<std::thread> threads;
    for (int c = 0; c < callers; ++c) {
      threads.emplace_back([&] {
        for (int job = 0; job < 20; ++job) pool_.Run(16, [&](size_t) { crowd.Visit(); });
      });
    }
    for (std::thread& thread : threads) thread.join();
    // A caller that comes while all threads are at work adds itself, for that job.
    EXPECT_LE(crowd.most(), callers == 1 ? kThreads : kThreads + callers - 1) << callers;
    EXPECT_GE(crowd.most(), std::min(kThreads, 2)) << callers;
  }
}

// A thread that works for an outer job and for one within it counts once: of three threads, one is
// kept busy by the outer job, one brings the inner job, and the third must be let in to that.
TEST_F(WorkerPoolTest, JobsWithinJobsUseTheOtherThreads) {
  pool_.SetNumThreads(3);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::atomic<bool> finished{false};
  std::atomic<int> inside{0};
  std::atomic<bool> met{false};
  pool_.Run(2, [&](size_t outer) {
    if (outer == 0) {
      while (!finished && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
      return;
    }
    pool_.Run(2, [&](size_t) {
      ++inside;
      while (inside < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
      if (inside == 2) met = true;
    });
    finished = true;
  });
  EXPECT_TRUE(met);
}

TEST_F(WorkerPoolTest, WorkersEndAndStartAgain) {
  pool_.SetNumThreads(4);
  const auto ids = [&] {
    std::mutex mu;
    std::set<pid_t> threads;
    pool_.Run(64, [&](size_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      std::lock_guard lock(mu);
      threads.insert(gettid());
    });
    threads.erase(gettid());
    return threads;
  };
  const std::set<pid_t> before = ids();
  ASSERT_FALSE(before.empty());
  pool_.EndWorkers();
  EXPECT_EQ(pool_.num_threads(), 4);
  for (const pid_t thread : ids()) EXPECT_FALSE(before.contains(thread));
  pool_.EndWorkers();
  pool_.EndWorkers();
}

TEST_F(WorkerPoolTest, BoundWorkersHaveAProcessorEachAndKeepOffTheCallers) {
  if (Processors() < 2) GTEST_SKIP() << "there is one processor";
  pool_.SetNumThreads(std::min(Processors(), 4));
  cpu_set_t everywhere;
  ASSERT_EQ(sched_getaffinity(0, sizeof(everywhere), &everywhere), 0);
  const pid_t caller = gettid();
  for (const bool bound : {true, false, true}) {
    pool_.Bind(bound);
    std::atomic<int> seen{0};
    for (int job = 0; job < 30; ++job) {
      pool_.Run(32, [&](size_t) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        if (gettid() == caller) return;
        cpu_set_t own;
        EXPECT_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
        EXPECT_EQ(CPU_COUNT(&own), bound ? 1 : CPU_COUNT(&everywhere));
        ++seen;
      });
    }
    EXPECT_GT(seen, 0);
  }
  // On few processors, wherever the caller is: two threads are on two processors.
  if (Processors() >= 4) return;
  pool_.SetNumThreads(2);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &everywhere)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    for (int job = 0; job < 5; ++job) {
      pool_.Run(8, [&](size_t) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        if (gettid() != caller) {
          EXPECT_NE(sched_getcpu(), cpu);
        }
      });
    }
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(everywhere), &everywhere), 0);
}

}  // namespace
}  // namespace mxrec
