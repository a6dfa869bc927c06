// SharedMutex: a phase-fair reader-writer lock. A waiting writer goes before readers that come
// later, and the readers that wait when a writer leaves go before the next writer: neither side
// can keep the other out, which both kinds of std/pthread lock allow (two reading threads keep a
// writer out for good, two training threads a save).
//
// A thread must not lock it shared twice: a writer that waits in between would stop both.
#pragma once

#include <cstdint>

#include "util/lock_order.h"
#include "util/mutex.h"

namespace mxrec {

class MXREC_CAPABILITY("shared_mutex") SharedMutex {
 public:
  SharedMutex() : SharedMutex(kUnranked) {}
  explicit SharedMutex(LockRank rank) : order_(rank) {}

  // Not analysed: these make the lock out of what they call, which is.
  void lock() MXREC_ACQUIRE() MXREC_NO_THREAD_SAFETY_ANALYSIS { Enter(); }
  bool try_lock() MXREC_TRY_ACQUIRE(true) MXREC_NO_THREAD_SAFETY_ANALYSIS { return TryEnter(); }
  void unlock() MXREC_RELEASE() MXREC_NO_THREAD_SAFETY_ANALYSIS { Leave(); }
  void lock_shared() MXREC_ACQUIRE_SHARED() MXREC_NO_THREAD_SAFETY_ANALYSIS { EnterShared(); }
  bool try_lock_shared() MXREC_TRY_ACQUIRE_SHARED(true) MXREC_NO_THREAD_SAFETY_ANALYSIS {
    return TryEnterShared();
  }
  void unlock_shared() MXREC_RELEASE_SHARED() MXREC_NO_THREAD_SAFETY_ANALYSIS { LeaveShared(); }

  // Tell the analysis what it cannot see: that the function around a lambda holds the lock, the
  // thread that waits for this worker, or whoever has taken all of an array of locks.
  void AssumeHeld() const MXREC_ASSUMES() {}
  void AssumeHeldShared() const MXREC_ASSUMES_SHARED() {}

 private:
  void Enter() {
    order_.Take();
    const MutexLock lock(mu_);
    ++waiting_writers_;
    while (writing_ || reading_ > 0) writers_.Wait(mu_);
    --waiting_writers_;
    writing_ = true;
  }
  bool TryEnter() {
    const MutexLock lock(mu_);
    if (writing_ || reading_ > 0) return false;
    order_.Take();
    writing_ = true;
    return true;
  }
  void Leave() {
    order_.Release();
    const MutexLock lock(mu_);
    writing_ = false;
    if (waiting_readers_ > 0) {
      reading_ = waiting_readers_;
      waiting_readers_ = 0;
      ++phase_;
      readers_.NotifyAll();
    } else if (waiting_writers_ > 0) {
      writers_.NotifyOne();
    }
  }
  void EnterShared() {
    order_.Take();
    const MutexLock lock(mu_);
    if (!writing_ && waiting_writers_ == 0) {
      ++reading_;
      return;
    }
    ++waiting_readers_;
    const uint64_t phase = phase_;
    while (phase_ == phase) readers_.Wait(mu_);  // counted in reading_ by Leave
  }
  bool TryEnterShared() {
    const MutexLock lock(mu_);
    if (writing_ || waiting_writers_ > 0) return false;
    order_.Take();
    ++reading_;
    return true;
  }
  void LeaveShared() {
    order_.Release();
    const MutexLock lock(mu_);
    if (--reading_ == 0 && waiting_writers_ > 0) writers_.NotifyOne();
  }

  [[no_unique_address]] LockOrder order_;
  Mutex mu_;
  Condition readers_;
  Condition writers_;
  bool writing_ MXREC_GUARDED_BY(mu_) = false;
  uint32_t reading_ MXREC_GUARDED_BY(mu_) = 0;  // readers inside
  // That came while a writer was inside or waiting.
  uint32_t waiting_readers_ MXREC_GUARDED_BY(mu_) = 0;
  uint32_t waiting_writers_ MXREC_GUARDED_BY(mu_) = 0;
  uint64_t phase_ MXREC_GUARDED_BY(mu_) = 0;  // grows whenever waiting readers are let in
};

// Tells the analysis that two names are of one lock: whoever holds it by the first name holds it by
// the second one. The ThreadSanitizer build checks it.
inline void SameLock(const SharedMutex& held, const SharedMutex& again) MXREC_REQUIRES(held)
    MXREC_ASSUMES(again) {
  CheckSameLock(&held, &again);
}
inline void SameLockShared(const SharedMutex& held, const SharedMutex& again)
    MXREC_REQUIRES_SHARED(held) MXREC_ASSUMES_SHARED(again) {
  CheckSameLock(&held, &again);
}

// Hold a SharedMutex, alone or shared, to the end of the block or until unlock().
class MXREC_SCOPED_CAPABILITY ExclusiveLock {
 public:
  explicit ExclusiveLock(SharedMutex& mu) MXREC_ACQUIRE(mu) : mu_(mu) { mu.lock(); }
  ~ExclusiveLock() MXREC_RELEASE() {
    if (held_) mu_.unlock();
  }
  ExclusiveLock(const ExclusiveLock&) = delete;
  ExclusiveLock& operator=(const ExclusiveLock&) = delete;

  void unlock() MXREC_RELEASE() {
    held_ = false;
    mu_.unlock();
  }

 private:
  SharedMutex& mu_;
  bool held_ = true;
};

class MXREC_SCOPED_CAPABILITY SharedLock {
 public:
  explicit SharedLock(SharedMutex& mu) MXREC_ACQUIRE_SHARED(mu) : mu_(mu) { mu.lock_shared(); }
  ~SharedLock() MXREC_RELEASE() {
    if (held_) mu_.unlock_shared();
  }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;

  void unlock() MXREC_RELEASE() {
    held_ = false;
    mu_.unlock_shared();
  }

 private:
  SharedMutex& mu_;
  bool held_ = true;
};

}  // namespace mxrec
