// SnapshotGate: who waits for a snapshot of a table: another one, calls that replace the table's
// state, and calls that change rows when too many images are waiting to be read.
#pragma once

#include <atomic>
#include <cstdint>

#include "util/mutex.h"

namespace mxrec {

class SnapshotGate {
 public:
  // Waits until there is no snapshot, and begins one.
  void Enter() {
    const MutexLock lock(mu_);
    while (open_) changed_.Wait(mu_);
    open_ = true;
  }
  void Leave() {
    {
      const MutexLock lock(mu_);
      open_ = false;
    }
    changed_.NotifyAll();
  }
  // The reader has gone on.
  void Progress() {
    {
      const MutexLock lock(mu_);
      ++progress_;
    }
    changed_.NotifyAll();
  }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  // Waits until it has gone on since `seen`, or there is no snapshot.
  void WaitForProgress(uint64_t seen) {
    const MutexLock lock(mu_);
    while (open_ && progress_ == seen) changed_.Wait(mu_);
  }
  void WaitForNone() {
    const MutexLock lock(mu_);
    while (open_) changed_.Wait(mu_);
  }
  bool open() {
    const MutexLock lock(mu_);
    return open_;
  }

 private:
  Mutex mu_;
  Condition changed_;
  bool open_ MXREC_GUARDED_BY(mu_) = false;
  std::atomic<uint64_t> progress_{0};
};

}  // namespace mxrec
