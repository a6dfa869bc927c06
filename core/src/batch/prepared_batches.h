// PreparedBatches: batches that were deduplicated and looked up ahead of their lookup, until that
// takes them.
//
// A batch is found by its keys, compared one by one: what is prepared need not travel through the
// input pipeline beside the ids, and no other batch can be mistaken for it. It is a hint and
// nothing else. What it says of rows is checked against their generations when it is used; one that
// nobody takes is dropped when newer ones need the room.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "batch/key_batch.h"
#include "mxrec/table_types.h"
#include "util/mutex.h"

namespace mxrec {

class PreparedBatches {
 public:
  // A step may look a table up hundreds of times, and several steps may be prepared.
  static constexpr size_t kMostBatches = 512;
  static constexpr size_t kMostKeys = size_t{1} << 22;

  // batch: deduplicated and numbered, `ref` and `generation` as they are now.
  void Put(KeySpan keys, KeyBatch::Ptr batch);
  // The oldest batch of just these keys; null: there is none.
  KeyBatch::Ptr Take(KeySpan keys);

  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t taken() const { return taken_.load(std::memory_order_relaxed); }
  // Takes over what an earlier store has counted.
  void Inherit(int64_t taken, int64_t dropped) {
    taken_ += taken;
    dropped_ += dropped;
  }
  int64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Entry {
    std::vector<std::byte> keys;
    KeyBatch::Ptr batch;
  };
  Mutex mu_;
  std::deque<Entry> entries_ MXREC_GUARDED_BY(mu_);  // the oldest first
  size_t keys_ MXREC_GUARDED_BY(mu_) = 0;            // in all entries
  std::atomic<size_t> size_{0};
  std::atomic<int64_t> taken_{0};
  std::atomic<int64_t> dropped_{0};
};

}  // namespace mxrec
