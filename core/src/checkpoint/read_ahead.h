// ReadAhead: fetches blocks of rows on a thread of its own, so that reading a table (or a file) and
// what is done with the blocks overlap. A Block has size() and clear(), as RowBlock has.
#pragma once

#include <array>
#include <functional>
#include <new>
#include <system_error>
#include <thread>

#include "mxrec/status.h"
#include "util/background_thread.h"
#include "util/mutex.h"

namespace mxrec::checkpoint {

template <class Block>
class ReadAhead {
 public:
  // fetch: replaces *block by the next rows; empty at the end, after which it is not called again.
  using Fetch = std::function<Status(Block* block)>;

  // yields: to threads that have more urgent work.
  explicit ReadAhead(Fetch fetch, bool yields = false) : fetch_(std::move(fetch)) {
    try {
      thread_ = std::thread([this, yields] {
        if (yields) YieldToOthers();
        Work();
      });
    } catch (const std::system_error&) {
      alone_ = true;  // no thread to be had: blocks are fetched when they are asked for
    }
  }
  ~ReadAhead() {
    {
      const MutexLock lock(mu_);
      stop_ = true;
    }
    changed_.NotifyAll();
    if (thread_.joinable()) thread_.join();
  }
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  Status Next(Block* block) {
    if (alone_) return fetch_(block);
    MutexLock lock(mu_);
    while (filled_ == taken_ && !done_) changed_.Wait(mu_);
    if (filled_ == taken_) {
      block->clear();
      return status_;
    }
    std::swap(*block, blocks_[taken_++ % kBlocks]);
    lock.unlock();
    changed_.NotifyAll();
    return {};
  }

 private:
  static constexpr size_t kBlocks = 3;

  Status TryFetch(Block* block) const {
    try {
      return fetch_(block);
    } catch (const std::bad_alloc&) {
      return ResourceExhausted("out of memory while reading rows of a checkpoint ahead");
    }
  }

  void Work() {
    Block block;
    for (;;) {
      const Status status = TryFetch(&block);
      MutexLock lock(mu_);
      while (filled_ - taken_ == kBlocks && !stop_) changed_.Wait(mu_);
      const bool done = stop_ || !status.ok() || block.size() == 0;
      done_ = done;
      if (done) {
        status_ = status;
      } else {
        std::swap(block, blocks_[filled_++ % kBlocks]);
      }
      lock.unlock();
      changed_.NotifyAll();
      if (done) return;
    }
  }

  const Fetch fetch_;
  bool alone_ = false;
  Mutex mu_;
  Condition changed_;
  std::array<Block, kBlocks> blocks_ MXREC_GUARDED_BY(mu_);
  size_t filled_ MXREC_GUARDED_BY(mu_) = 0;
  size_t taken_ MXREC_GUARDED_BY(mu_) = 0;
  bool done_ MXREC_GUARDED_BY(mu_) = false;
  bool stop_ MXREC_GUARDED_BY(mu_) = false;
  Status status_ MXREC_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace mxrec::checkpoint
