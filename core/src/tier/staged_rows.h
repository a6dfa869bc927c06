// StagedRows: rows that have been read from SSD ahead of the batch that needs them, or are being
// read.
//
// A staged row is a copy of a record that stays where it is; the batch takes the copy instead of
// reading, and waits for one that is on its way. So nothing depends on whether a row is staged, and
// one that is never taken makes room for later ones.
//
// Invariant: a staged copy is that of the record that its key has on SSD. Put is called under the
// shard's lock, after a look at the index; Drop when a key's record changes or goes, under that
// lock exclusively. Thread-safe; calls take many rows at a time, because a batch that takes rows
// and the threads that bring those of later ones meet here.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "util/mutex.h"

namespace mxrec {

class StagedRows {
 public:
  StagedRows(size_t row_bytes, size_t most_rows) : row_bytes_(row_bytes), most_(most_rows) {}

  size_t most_rows() const { return most_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t bytes() const { return static_cast<int64_t>(size() * (row_bytes_ + 96)); }

  // A row and its key: values to be staged, or where they are to be copied to.
  struct In {
    int64_t key;
    const void* row;
  };
  struct Out {
    int64_t key;
    void* row;
  };

  // The rows of these keys are going to be read, and Put or Finish follows, without waiting for a
  // table's change. mine[i] = 0: the row is here, or somebody else is reading it. May throw; what
  // has been begun then is in `mine`.
  void Begin(std::span<const int64_t> keys, std::span<uint8_t> mine) {
    std::ranges::fill(mine, uint8_t{0});
    const MutexLock lock(mu_);
    for (size_t i = 0; i < keys.size(); ++i) mine[i] = rows_.try_emplace(keys[i]).second ? 1 : 0;
    size_ = rows_.size();
  }
  // May throw. The rows that have waited longest make room.
  void Put(std::span<const In> in) {
    std::vector<std::unique_ptr<char[]>> copies(in.size());
    for (size_t i = 0; i < in.size(); ++i) {
      copies[i].reset(new char[row_bytes_]);
      std::memcpy(copies[i].get(), in[i].row, row_bytes_);
    }
    {
      const MutexLock lock(mu_);
      for (size_t i = 0; i < in.size(); ++i) {
        const auto begun = rows_.find(in[i].key);
        if (begun == rows_.end()) continue;  // it has left SSD since Begin
        order_.emplace_back(next_, in[i].key);
        std::swap(begun->second.bytes, copies[i]);
        begun->second.number = next_++;
      }
      for (; rows_.size() > most_ && order_.size() > 1; order_.pop_front()) {
        const auto oldest = rows_.find(order_.front().second);
        if (oldest != rows_.end() && oldest->second.number == order_.front().first) {
          rows_.erase(oldest);
        }
      }
      size_ = rows_.size();
    }
    put_.NotifyAll();
  }
  // After Begin: none of these is being read any more.
  void Finish(std::span<const int64_t> keys, std::span<const uint8_t> mine) {
    {
      const MutexLock lock(mu_);
      for (size_t i = 0; i < keys.size(); ++i) {
        if (mine[i] == 0) continue;
        const auto found = rows_.find(keys[i]);
        if (found != rows_.end() && found->second.bytes == nullptr) rows_.erase(found);
      }
      size_ = rows_.size();
    }
    put_.NotifyAll();
  }
  // Copies rows out. copied[i] = 0: the row is not here. Waits for rows that are being read if they
  // are a part of the batch that matters: a few are those that a later batch needs as well, with
  // which they come when all of that is read; who wants them now is faster alone.
  void Copy(std::span<const Out> out, std::span<uint8_t> copied) {
    std::ranges::fill(copied, uint8_t{0});
    if (size() == 0) return;
    const MutexLock lock(mu_);
    std::vector<size_t> coming;
    for (size_t i = 0; i < out.size(); ++i) {
      if (CopyOne(out[i], &copied[i])) coming.push_back(i);
    }
    if (coming.size() < out.size() / kFew) return;
    for (const size_t i : coming) {
      while (CopyOne(out[i], &copied[i])) put_.Wait(mu_);
    }
  }
  void Drop(std::span<const int64_t> keys) {
    if (size() == 0) return;
    const MutexLock lock(mu_);
    for (const int64_t key : keys) rows_.erase(key);
    size_ = rows_.size();
    if (order_.size() > 4 * most_ + 1024) Tidy();
  }

 private:
  static constexpr size_t kFew = 8;  // less than one in so many rows of a batch are few

  // True: it is being read.
  bool CopyOne(const Out& out, uint8_t* copied) const MXREC_REQUIRES(mu_) {
    const auto found = rows_.find(out.key);
    if (found == rows_.end()) return false;
    if (found->second.bytes == nullptr) return true;
    std::memcpy(out.row, found->second.bytes.get(), row_bytes_);
    *copied = 1;
    return false;
  }

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
  Condition put_;  // rows, or they are not being read any more
  std::unordered_map<int64_t, Row> rows_ MXREC_GUARDED_BY(mu_);
  // Number, key: oldest first.
  std::deque<std::pair<uint64_t, int64_t>> order_ MXREC_GUARDED_BY(mu_);
  uint64_t next_ MXREC_GUARDED_BY(mu_) = 0;
};

}  // namespace mxrec
