// TierWorkers: the threads of a table with an SSD tier. One has rows leave memory before it is
// full, the others read rows ahead that a caller has announced: a few batches at a time, so that
// the disk has work while a thread has work with what it has read, and slow disks do not wait for
// each other.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "util/mutex.h"

namespace mxrec {

class TierWorkers {
 public:
  static constexpr size_t kMostAhead = 16;  // batches that wait to be read ahead

  // spill() is called after Spill, stage(keys) after Stage; neither throws.
  TierWorkers(std::function<void()> spill, std::function<void(const std::vector<int64_t>&)> stage);
  // What waits is dropped.
  ~TierWorkers();
  TierWorkers(const TierWorkers&) = delete;
  TierWorkers& operator=(const TierWorkers&) = delete;

  void Spill();
  // Of more batches than kMostAhead that wait, the first is dropped.
  void Stage(std::vector<int64_t> keys);

 private:
  static constexpr int kStaging = 4;  // threads

  void Stop();
  void RunSpill();
  void RunStage();

  const std::function<void()> spill_;
  const std::function<void(const std::vector<int64_t>&)> stage_;
  Mutex mu_;
  Condition work_;
  bool stop_ MXREC_GUARDED_BY(mu_) = false;
  bool wants_spill_ MXREC_GUARDED_BY(mu_) = false;
  std::deque<std::vector<int64_t>> ahead_ MXREC_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace mxrec
