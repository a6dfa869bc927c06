// ReadAhead: fetches blocks of rows on a thread of its own, so that reading a table (or a file) and
// what is done with the blocks overlap. A Block has size() and clear(), as RowBlock has.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "mxrec/status.h"
#include "util/background_thread.h"

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
      const std::lock_guard lock(mu_);
      stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  Status Next(Block* block) {
    if (alone_) return fetch_(block);
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return filled_ > taken_ || done_; });
    if (filled_ == taken_) {
      block->clear();
      return status_;
    }
    std::swap(*block, blocks_[taken_++ % kBlocks]);
    lock.unlock();
    changed_.notify_all();
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
      std::unique_lock lock(mu_);
      changed_.wait(lock, [this] { return filled_ - taken_ < kBlocks || stop_; });
      done_ = stop_ || !status.ok() || block.size() == 0;
      if (done_) {
        status_ = status;
      } else {
        std::swap(block, blocks_[filled_++ % kBlocks]);
      }
      lock.unlock();
      changed_.notify_all();
      if (done_) return;
    }
  }

  const Fetch fetch_;
  bool alone_ = false;
  std::mutex mu_;  // guards what follows
  std::condition_variable changed_;
  std::array<Block, kBlocks> blocks_;
  size_t filled_ = 0;
  size_t taken_ = 0;
  bool done_ = false;
  bool stop_ = false;
  Status status_;
  std::thread thread_;
};

}  // namespace mxrec::checkpoint
