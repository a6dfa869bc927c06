#include "table/tier_workers.h"

#include <utility>

namespace mxrec {

TierWorkers::TierWorkers(std::function<void()> spill,
                         std::function<void(const std::vector<int64_t>&)> stage)
    : spill_(std::move(spill)), stage_(std::move(stage)) {
  try {
    threads_.emplace_back([this] { RunSpill(); });
    for (int i = 0; i < kStaging; ++i) threads_.emplace_back([this] { RunStage(); });
  } catch (...) {
    Stop();
    throw;
  }
}

TierWorkers::~TierWorkers() { Stop(); }

void TierWorkers::Stop() {
  {
    const MutexLock lock(mu_);
    stop_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void TierWorkers::Spill() {
  {
    const MutexLock lock(mu_);
    if (std::exchange(wants_spill_, true)) return;
  }
  work_.NotifyAll();
}

void TierWorkers::Stage(std::vector<int64_t> keys) {
  {
    const MutexLock lock(mu_);
    if (ahead_.size() == kMostAhead) ahead_.pop_front();
    ahead_.push_back(std::move(keys));
  }
  work_.NotifyAll();
}

void TierWorkers::RunSpill() {
  MutexLock lock(mu_);
  for (;;) {
    while (!stop_ && !wants_spill_) work_.Wait(mu_);
    if (stop_) return;
    wants_spill_ = false;
    lock.unlock();
    spill_();
    lock.lock();
  }
}

void TierWorkers::RunStage() {
  MutexLock lock(mu_);
  for (;;) {
    while (!stop_ && ahead_.empty()) work_.Wait(mu_);
    if (stop_) return;
    const std::vector<int64_t> keys = std::move(ahead_.front());
    ahead_.pop_front();
    lock.unlock();
    stage_(keys);
    lock.lock();
  }
}

}  // namespace mxrec
