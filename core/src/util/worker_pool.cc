#include "util/worker_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "hwy/cache_control.h"
#include "util/mutex.h"

namespace mxrec {
namespace {

struct Job {
  const std::function<void(size_t)>* task;
  size_t tasks;
  std::atomic<size_t> next{0};
  std::atomic<size_t> finished{0};  // changes under Impl::mu
  Condition done;
};

cpu_set_t AllowedProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return set;
  CPU_ZERO(&set);
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) CPU_SET(i, &set);
  return set;
}

int UsableProcessors() {
  const cpu_set_t set = AllowedProcessors();
  return CPU_COUNT(&set);
}

// Waits for `done` for at most the time in which sleeping and being woken would cost more.
template <class Done>
void SpinUntil(Done done) {
  constexpr auto kLongest = std::chrono::microseconds(30);
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return;
      hwy::Pause();
    }
  } while (std::chrono::steady_clock::now() - begin < kLongest);
}

// Where bound workers are. Not thread-safe.
//
// On a machine of few processors a bound worker would mostly wait behind the caller, which is on
// its processor (a step of 106,000 keys on two processors: 1.4 times as long as with workers that
// roam). There a worker makes room: it moves to the processor that is free.
class Seats {
 public:
  explicit Seats(const cpu_set_t& allowed) : allowed_(allowed) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) cpus_.push_back(cpu);
    }
  }

  // The calling thread, worker `id`, goes to a processor of its own, id + 1 of those allowed.
  void Take(int id) {
    const auto at = static_cast<size_t>(id);
    if (seats_.size() <= at) seats_.resize(at + 1);
    seats_[at] = {gettid(), cpus_[(at + 1) % cpus_.size()]};
    Bind(seats_[at]);
  }
  void Leave(int id) {
    if (static_cast<size_t>(id) < seats_.size()) seats_[static_cast<size_t>(id)] = {};
    sched_setaffinity(0, sizeof(allowed_), &allowed_);
  }
  // Before a job of the calling thread.
  void MakeRoom() {
    if (cpus_.size() >= kManyProcessors) return;
    const int here = sched_getcpu();
    const auto on = [&](int cpu) {
      return std::find_if(seats_.begin(), seats_.end(),
                          [&](const Seat& seat) { return seat.thread != 0 && seat.cpu == cpu; });
    };
    const auto sitting = on(here);
    if (sitting == seats_.end() || sitting->thread == gettid()) return;
    for (const int cpu : cpus_) {
      if (cpu == here || on(cpu) != seats_.end()) continue;
      sitting->cpu = cpu;
      Bind(*sitting);
      return;
    }
  }

 private:
  static constexpr size_t kManyProcessors = 4;
  struct Seat {
    pid_t thread = 0;  // 0: nobody is bound here
    int cpu = 0;
  };

  static void Bind(const Seat& seat) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(seat.cpu, &one);
    sched_setaffinity(seat.thread, sizeof(one), &one);  // a processor taken away: it roams on
  }

  const cpu_set_t allowed_;
  std::vector<int> cpus_;
  std::vector<Seat> seats_;  // by worker
};

// Whether this thread is one of those that Impl::working counts.
thread_local bool counted = false;

}  // namespace

struct WorkerPool::Impl {
  Mutex mu;
  Condition wake;
  std::atomic<uint64_t> posted{0};  // jobs so far
  // With tasks that nobody has taken yet.
  std::deque<std::shared_ptr<Job>> jobs MXREC_GUARDED_BY(mu);
  // Worker threads, the callers not counted.
  int wanted MXREC_GUARDED_BY(mu) = UsableProcessors() - 1;
  std::vector<bool> running MXREC_GUARDED_BY(mu);  // by worker id
  Condition stopped;                               // a worker has ended
  std::atomic<int> threads{UsableProcessors()};
  std::atomic<bool> bound{false};
  Seats seats MXREC_GUARDED_BY(mu){AllowedProcessors()};
  // Threads at work on jobs, callers and workers. Callers always work; a worker joins them only up
  // to `threads`, so that several callers at a time (TensorFlow's own threads) do not bring as many
  // workers each.
  std::atomic<int> working{0};

  // Counts the calling thread while it works, unless it works for an outer job already.
  class Working {
   public:
    explicit Working(Impl* impl) : impl_(counted ? nullptr : impl) {
      if (impl_ == nullptr) return;
      counted = true;
      ++impl_->working;
    }
    ~Working() {
      if (impl_ == nullptr) return;
      counted = false;
      --impl_->working;
      const MutexLock lock(impl_->mu);
      if (!impl_->jobs.empty()) impl_->wake.NotifyOne();
    }

   private:
    Impl* const impl_;
  };

  // Takes tasks of `job` until none is left.
  void Work(Job& job) {
    size_t done = 0;
    for (size_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.tasks; ++done) {
      (*job.task)(i);
    }
    if (done == 0) return;
    const MutexLock lock(mu);
    if (job.finished.fetch_add(done) + done == job.tasks) job.done.NotifyAll();
  }

  void Loop(int id) {
    bool is_bound = false;
    MutexLock lock(mu);
    for (;;) {
      if (jobs.empty() && id < wanted) {
        // The next region of the same call comes within microseconds; a sleeping thread would take
        // several times as long to wake up.
        const uint64_t seen = posted.load(std::memory_order_relaxed);
        lock.unlock();
        SpinUntil([&] { return posted.load(std::memory_order_acquire) != seen; });
        lock.lock();
      }
      while (id < wanted && (jobs.empty() || working.load(std::memory_order_relaxed) >= threads)) {
        wake.Wait(mu);
      }
      if (id >= wanted) {
        running[static_cast<size_t>(id)] = false;
        if (is_bound) seats.Leave(id);
        stopped.NotifyAll();
        return;
      }
      std::shared_ptr<Job> job = jobs.front();
      if (job->next.load(std::memory_order_relaxed) >= job->tasks) {
        jobs.pop_front();
        continue;
      }
      if (is_bound != bound.load(std::memory_order_relaxed)) {
        is_bound = !is_bound;
        if (is_bound) {
          seats.Take(id);
        } else {
          seats.Leave(id);
        }
      }
      ++working;
      counted = true;
      lock.unlock();
      Work(*job);
      lock.lock();
      counted = false;
      --working;
    }
  }

  void StartWorkers() MXREC_REQUIRES(mu) {
    if (running.size() < static_cast<size_t>(wanted)) running.resize(static_cast<size_t>(wanted));
    for (int id = 0; id < wanted; ++id) {
      if (running[static_cast<size_t>(id)]) continue;
      running[static_cast<size_t>(id)] = true;
      std::thread([this, id] {
        pthread_setname_np(pthread_self(), "mxrec-worker");
        Loop(id);
      }).detach();
    }
  }
};

WorkerPool::WorkerPool() : impl_(new Impl) {
  // A forked child has none of the threads and maybe a held mutex: it starts with a fresh pool.
  pthread_atfork(nullptr, nullptr, [] {
    WorkerPool& pool = Get();
    const int threads = pool.num_threads();
    const bool bound = pool.bound();
    pool.impl_ = new Impl;
    pool.impl_->bound = bound;
    pool.impl_->threads = threads;
    const MutexLock lock(pool.impl_->mu);
    pool.impl_->wanted = threads - 1;
  });
}

WorkerPool& WorkerPool::Get() {
  static WorkerPool* pool = new WorkerPool;
  return *pool;
}

void WorkerPool::SetNumThreads(int n) {
  const MutexLock lock(impl_->mu);
  impl_->wanted = n - 1;
  impl_->threads = n;
  impl_->wake.NotifyAll();
}

void WorkerPool::EndWorkers() {
  const MutexLock lock(impl_->mu);
  impl_->wanted = 0;
  impl_->wake.NotifyAll();
  while (std::find(impl_->running.begin(), impl_->running.end(), true) != impl_->running.end()) {
    impl_->stopped.Wait(impl_->mu);
  }
  impl_->wanted = impl_->threads - 1;
}

int WorkerPool::num_threads() const { return impl_->threads.load(std::memory_order_relaxed); }

void WorkerPool::Bind(bool bound) { impl_->bound = bound; }
bool WorkerPool::bound() const { return impl_->bound.load(std::memory_order_relaxed); }

void WorkerPool::Run(size_t tasks, const std::function<void(size_t)>& task) {
  if (tasks <= 1 || num_threads() == 1) {
    for (size_t i = 0; i < tasks; ++i) task(i);
    return;
  }
  auto job = std::make_shared<Job>();
  job->task = &task;
  job->tasks = tasks;
  {
    const MutexLock lock(impl_->mu);
    impl_->StartWorkers();
    if (impl_->bound.load(std::memory_order_relaxed)) impl_->seats.MakeRoom();
    impl_->jobs.push_back(job);
    impl_->posted.fetch_add(1, std::memory_order_release);
  }
  impl_->wake.NotifyAll();
  {
    const Impl::Working counting(impl_);
    impl_->Work(*job);
  }
  SpinUntil([&] { return job->finished.load(std::memory_order_acquire) == job->tasks; });
  const MutexLock lock(impl_->mu);
  std::erase(impl_->jobs, job);
  while (job->finished != job->tasks) job->done.Wait(impl_->mu);
}

void WorkerPool::RunRanges(size_t n, size_t grain,
                           const std::function<void(size_t, size_t)>& range) {
  if (n == 0) return;
  // Four ranges a thread even out threads of different speed.
  const size_t most = 4 * static_cast<size_t>(num_threads());
  const size_t ranges = std::clamp<size_t>(n / std::max<size_t>(grain, 1), 1, most);
  Run(ranges, [&](size_t i) { range(n * i / ranges, n * (i + 1) / ranges); });
}

}  // namespace mxrec
