// StagedRows: rows that have been read from SSD ahead of the batch that needs them, or are being
// read.
//
// A staged row is a copy of a record that stays where it is; the batch takes the copy instead of
// reading, and waits for one that is on its way. So nothing depends on whether a row is staged, and
// one that is never taken makes room for later ones.
//
// Invariant: a staged copy is that of the record that its key has on SSD. Put is called under the
// shard's lock, after a look at the index; Drop before a key's record changes or goes, under that
// lock exclusively. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "util/mutex.h"

namespace mxrec {

class StagedRows {
 public:
  StagedRows(size_t row_bytes, size_t most_rows) : row_bytes_(row_bytes), most_(most_rows) {}

  size_t most_rows() const { return most_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t bytes() const { return static_cast<int64_t>(size() * (row_bytes_ + 96)); }

  // The row is going to be read, and Put or Finish follows, without waiting for a table's change.
  // False: it is here, or somebody else is reading it. May throw.
  bool Begin(int64_t key) {
    const MutexLock lock(mu_);
    const bool mine = rows_.try_emplace(key).second;
    if (mine) ++size_;
    return mine;
  }
  // May throw. The rows that have waited longest make room.
  void Put(int64_t key, const void* row) {
    std::unique_ptr<char[]> bytes(new char[row_bytes_]);
    std::memcpy(bytes.get(), row, row_bytes_);
    const MutexLock lock(mu_);
    const auto begun = rows_.find(key);
    if (begun == rows_.end()) return;  // it has left SSD since Begin
    order_.emplace_back(next_, key);
    begun->second = {next_++, std::move(bytes)};
    for (; rows_.size() > most_ && order_.size() > 1; order_.pop_front()) {
      const auto oldest = rows_.find(order_.front().second);
      if (oldest != rows_.end() && oldest->second.number == order_.front().first) {
        rows_.erase(oldest);
      }
    }
    size_ = rows_.size();
  }
  // Of the keys that Begin was called for: none is being read any more.
  template <class Keys>
  void Finish(const Keys& keys) {
    {
      const MutexLock lock(mu_);
      for (const auto& key : keys) {
        const auto found = rows_.find(key);
        if (found != rows_.end() && found->second.bytes == nullptr) rows_.erase(found);
      }
      size_ = rows_.size();
    }
    finished_.NotifyAll();
  }
  // Copies the row out; waits if it is being read. False: it is not here.
  bool Copy(int64_t key, void* row) {
    if (size() == 0) return false;
    const MutexLock lock(mu_);
    for (;;) {
      const auto found = rows_.find(key);
      if (found == rows_.end()) return false;
      if (found->second.bytes != nullptr) {
        std::memcpy(row, found->second.bytes.get(), row_bytes_);
        return true;
      }
      finished_.Wait(mu_);
    }
  }
  void Drop(int64_t key) {
    if (size() == 0) return;
    const MutexLock lock(mu_);
    rows_.erase(key);
    size_ = rows_.size();
    if (order_.size() > 4 * most_ + 1024) Tidy();
  }

 private:
  struct Row {
    uint64_t number = 0;
    std::unique_ptr<char[]> bytes;  // null: being read
  };
  void Tidy() MXREC_REQUIRES(mu_) {  // of entries whose rows have gone
    std::erase_if(order_, [&](const auto& entry) MXREC_REQUIRES(mu_) {
      const auto found = rows_.find(entry.second);
      return found == rows_.end() || found->second.number != entry.first;
    });
  }

  const size_t row_bytes_;
  const size_t most_;
  std::atomic<size_t> size_{0};
  Mutex mu_;
  Condition finished_;
  std::unordered_map<int64_t, Row> rows_ MXREC_GUARDED_BY(mu_);
  // Number, key: oldest first.
  std::deque<std::pair<uint64_t, int64_t>> order_ MXREC_GUARDED_BY(mu_);
  uint64_t next_ MXREC_GUARDED_BY(mu_) = 0;
};

}  // namespace mxrec
