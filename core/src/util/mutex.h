// Mutex, MutexLock and Condition: the standard library's, with annotations, which libstdc++ lacks.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "util/thread_annotations.h"

namespace mxrec {

class MXREC_CAPABILITY("mutex") Mutex {
 public:
  void lock() MXREC_ACQUIRE() { mu_.lock(); }
  void unlock() MXREC_RELEASE() { mu_.unlock(); }
  bool try_lock() MXREC_TRY_ACQUIRE(true) { return mu_.try_lock(); }

 private:
  friend class Condition;
  std::mutex mu_;
};

// Holds a Mutex from here to the end of the block, except between unlock() and lock().
class MXREC_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mu) MXREC_ACQUIRE(mu) : mu_(mu) { mu.lock(); }
  // Of one that the thread holds already, by try_lock().
  MutexLock(Mutex& mu, std::adopt_lock_t) MXREC_REQUIRES(mu) : mu_(mu) {}
  ~MutexLock() MXREC_RELEASE() {
    if (held_) mu_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() MXREC_ACQUIRE() {
    mu_.lock();
    held_ = true;
  }
  void unlock() MXREC_RELEASE() {
    held_ = false;
    mu_.unlock();
  }

 private:
  Mutex& mu_;
  bool held_ = true;
};

// A condition variable. Wait() in a loop over what is waited for: it may return without a cause,
// and the analysis does not see that a predicate is called under the lock.
class Condition {
 public:
  void Wait(Mutex& mu) MXREC_REQUIRES(mu) {
    std::unique_lock lock(mu.mu_, std::adopt_lock);
    changed_.wait(lock);
    lock.release();
  }
  // The same until then at most. False: it is later.
  bool WaitUntil(Mutex& mu, std::chrono::steady_clock::time_point end) MXREC_REQUIRES(mu) {
    std::unique_lock lock(mu.mu_, std::adopt_lock);
    const bool in_time = changed_.wait_until(lock, end) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { changed_.notify_one(); }
  void NotifyAll() { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace mxrec
