// SharedMutex: a phase-fair reader-writer lock. A waiting writer goes before readers that come
// later, and the readers that wait when a writer leaves go before the next writer: neither side
// can keep the other out, which both kinds of std/pthread lock allow (two reading threads keep a
// writer out for good, two training threads a save).
//
// A thread must not lock it shared twice: a writer that waits in between would stop both.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "util/lock_order.h"

namespace mxrec {

class SharedMutex {
 public:
  SharedMutex() : SharedMutex(kUnranked) {}
  explicit SharedMutex(LockRank rank) : order_(rank) {}

  void lock() {
    order_.Take();
    std::unique_lock lock(mu_);
    ++waiting_writers_;
    writers_.wait(lock, [this] { return !writing_ && reading_ == 0; });
    --waiting_writers_;
    writing_ = true;
  }
  bool try_lock() {
    std::lock_guard lock(mu_);
    if (writing_ || reading_ > 0) return false;
    order_.Take();
    writing_ = true;
    return true;
  }
  void unlock() {
    order_.Release();
    std::lock_guard lock(mu_);
    writing_ = false;
    if (waiting_readers_ > 0) {
      reading_ = waiting_readers_;
      waiting_readers_ = 0;
      ++phase_;
      readers_.notify_all();
    } else if (waiting_writers_ > 0) {
      writers_.notify_one();
    }
  }
  void lock_shared() {
    order_.Take();
    std::unique_lock lock(mu_);
    if (!writing_ && waiting_writers_ == 0) {
      ++reading_;
      return;
    }
    ++waiting_readers_;
    const uint64_t phase = phase_;
    readers_.wait(lock, [&] { return phase_ != phase; });  // counted in reading_ by unlock
  }
  bool try_lock_shared() {
    std::lock_guard lock(mu_);
    if (writing_ || waiting_writers_ > 0) return false;
    order_.Take();
    ++reading_;
    return true;
  }
  void unlock_shared() {
    order_.Release();
    std::lock_guard lock(mu_);
    if (--reading_ == 0 && waiting_writers_ > 0) writers_.notify_one();
  }

 private:
  [[no_unique_address]] LockOrder order_;
  std::mutex mu_;
  std::condition_variable readers_;
  std::condition_variable writers_;
  bool writing_ = false;          // guarded by mu_, as is all below
  uint32_t reading_ = 0;          // readers inside
  uint32_t waiting_readers_ = 0;  // that came while a writer was inside or waiting
  uint32_t waiting_writers_ = 0;
  uint64_t phase_ = 0;  // grows whenever waiting readers are let in
};

}  // namespace mxrec
