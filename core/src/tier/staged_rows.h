// StagedRows: rows that have been read from SSD ahead of the batch that needs them.
//
// A staged row is a copy of a record that stays where it is; the batch takes the copy instead of
// reading. So nothing depends on whether a row is staged, and one that is never taken makes room
// for later ones.
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
#include <mutex>
#include <unordered_map>
#include <utility>

namespace mxrec {

class StagedRows {
 public:
  StagedRows(size_t row_bytes, size_t most_rows) : row_bytes_(row_bytes), most_(most_rows) {}

  size_t most_rows() const { return most_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t bytes() const { return static_cast<int64_t>(size() * (row_bytes_ + 96)); }

  bool Has(int64_t key) const {
    if (size() == 0) return false;
    const std::lock_guard lock(mu_);
    return rows_.contains(key);
  }
  // May throw. The rows that have waited longest make room.
  void Put(int64_t key, const void* row) {
    const std::lock_guard lock(mu_);
    if (rows_.contains(key)) return;
    for (; rows_.size() >= most_ && !order_.empty(); order_.pop_front()) {
      const auto oldest = rows_.find(order_.front().second);
      if (oldest != rows_.end() && oldest->second.number == order_.front().first) {
        rows_.erase(oldest);
      }
    }
    Row staged{next_++, std::make_unique<char[]>(row_bytes_)};
    std::memcpy(staged.bytes.get(), row, row_bytes_);
    order_.emplace_back(staged.number, key);
    rows_.emplace(key, std::move(staged));
    size_ = rows_.size();
  }
  // Copies the row out. False: it is not here.
  bool Copy(int64_t key, void* row) const {
    if (size() == 0) return false;
    const std::lock_guard lock(mu_);
    const auto found = rows_.find(key);
    if (found == rows_.end()) return false;
    std::memcpy(row, found->second.bytes.get(), row_bytes_);
    return true;
  }
  void Drop(int64_t key) {
    if (size() == 0) return;
    const std::lock_guard lock(mu_);
    rows_.erase(key);
    size_ = rows_.size();
    if (order_.size() > 4 * most_ + 1024) Tidy();
  }

 private:
  struct Row {
    uint64_t number;
    std::unique_ptr<char[]> bytes;
  };
  void Tidy() {  // of entries whose rows have gone
    std::erase_if(order_, [&](const auto& entry) {
      const auto found = rows_.find(entry.second);
      return found == rows_.end() || found->second.number != entry.first;
    });
  }

  const size_t row_bytes_;
  const size_t most_;
  std::atomic<size_t> size_{0};
  mutable std::mutex mu_;  // guards what follows
  std::unordered_map<int64_t, Row> rows_;
  std::deque<std::pair<uint64_t, int64_t>> order_;  // number, key: oldest first
  uint64_t next_ = 0;
};

}  // namespace mxrec
