// WorkerPool: the engine's threads. A job is a number of tasks; the calling thread takes part, so a
// job finishes even when every worker is busy, and nested or concurrent jobs cannot deadlock.
#pragma once

#include <cstddef>
#include <functional>

namespace mxrec {

class WorkerPool {
 public:
  static WorkerPool& Get();

  void SetNumThreads(int n);
  int num_threads() const;
  // Ends all worker threads when they have finished what they work on. The next Run starts new
  // ones. Not to be called by a task.
  void EndWorkers();
  // Binds each worker to one of the processors that the process may use, or lets them roam again.
  // The calling threads are not the pool's and stay as they are; with fewer than four processors a
  // bound worker moves out of the way of one that calls Run.
  void Bind(bool bound);
  bool bound() const;

  // Calls task(i) once for every i in [0, tasks), on up to num_threads() threads, and returns when
  // all have finished. Tasks do not throw. Threads that call at the same time share the workers: no
  // worker takes part while num_threads() threads or more are at work.
  void Run(size_t tasks, const std::function<void(size_t)>& task);
  // Splits [0, n) into contiguous ranges of at least `grain` and calls range(begin, end) on each.
  void RunRanges(size_t n, size_t grain, const std::function<void(size_t, size_t)>& range);

 private:
  WorkerPool();
  struct Impl;
  Impl* impl_;  // lives as long as the process: workers may outlast static destructors
};

}  // namespace mxrec
