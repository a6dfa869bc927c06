// SnapshotGate: who waits for a snapshot of a table: another one, calls that replace the table's
// state, and calls that change rows when too many images are waiting to be read.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace mxrec {

class SnapshotGate {
 public:
  // Waits until there is no snapshot, and begins one.
  void Enter() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return !open_; });
    open_ = true;
  }
  void Leave() {
    {
      const std::lock_guard lock(mu_);
      open_ = false;
    }
    changed_.notify_all();
  }
  // The reader has gone on.
  void Progress() {
    {
      const std::lock_guard lock(mu_);
      ++progress_;
    }
    changed_.notify_all();
  }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  // Waits until it has gone on since `seen`, or there is no snapshot.
  void WaitForProgress(uint64_t seen) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return !open_ || progress_ != seen; });
  }
  void WaitForNone() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return !open_; });
  }
  bool open() {
    const std::lock_guard lock(mu_);
    return open_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = false;  // guarded by mu_
  std::atomic<uint64_t> progress_{0};
};

}  // namespace mxrec
