#include "table/tier_workers.h"

#include <utility>

namespace mxrec {

TierWorkers::TierWorkers(std::function<void()> spill,
                         std::function<void(const std::vector<int64_t>&)> stage)
    : spill_(std::move(spill)), stage_(std::move(stage)) {
  spilling_ = std::thread([this] { RunSpill(); });
  try {
    staging_ = std::thread([this] { RunStage(); });
  } catch (...) {
    {
      const std::lock_guard lock(mu_);
      stop_ = true;
    }
    work_.notify_all();
    spilling_.join();
    throw;
  }
}

TierWorkers::~TierWorkers() {
  {
    const std::lock_guard lock(mu_);
    stop_ = true;
  }
  work_.notify_all();
  spilling_.join();
  staging_.join();
}

void TierWorkers::Spill() {
  {
    const std::lock_guard lock(mu_);
    if (std::exchange(wants_spill_, true)) return;
  }
  work_.notify_all();
}

void TierWorkers::Stage(std::vector<int64_t> keys) {
  {
    const std::lock_guard lock(mu_);
    if (ahead_.size() == kMostAhead) ahead_.pop_front();
    ahead_.push_back(std::move(keys));
  }
  work_.notify_all();
}

void TierWorkers::RunSpill() {
  std::unique_lock lock(mu_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || wants_spill_; });
    if (stop_) return;
    wants_spill_ = false;
    lock.unlock();
    spill_();
    lock.lock();
  }
}

void TierWorkers::RunStage() {
  std::unique_lock lock(mu_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || !ahead_.empty(); });
    if (stop_) return;
    const std::vector<int64_t> keys = std::move(ahead_.front());
    ahead_.pop_front();
    lock.unlock();
    stage_(keys);
    lock.lock();
  }
}

}  // namespace mxrec
