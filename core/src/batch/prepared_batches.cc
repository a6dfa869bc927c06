#include "batch/prepared_batches.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

namespace mxrec {

void PreparedBatches::Put(KeySpan keys, KeyBatch::Ptr batch) {
  const std::span<const std::byte> bytes = keys.bytes();
  Entry entry{{bytes.begin(), bytes.end()}, std::move(batch)};
  std::vector<Entry> dropped;  // given back behind the lock
  const MutexLock lock(mu_);
  keys_ += entry.batch->size();
  entries_.push_back(std::move(entry));
  while (entries_.size() > kMostBatches || (keys_ > kMostKeys && entries_.size() > 1)) {
    keys_ -= entries_.front().batch->size();
    dropped.push_back(std::move(entries_.front()));
    entries_.pop_front();
  }
  dropped_ += static_cast<int64_t>(dropped.size());
  size_ = entries_.size();
}

KeyBatch::Ptr PreparedBatches::Take(KeySpan keys) {
  if (size() == 0) return nullptr;
  const std::span<const std::byte> bytes = keys.bytes();
  const MutexLock lock(mu_);
  const auto same = [&](const Entry& entry) {
    return entry.keys.size() == bytes.size() && entry.batch->size() == keys.size() &&
           (bytes.empty() || std::memcmp(entry.keys.data(), bytes.data(), bytes.size()) == 0);
  };
  const auto found = std::find_if(entries_.begin(), entries_.end(), same);
  if (found == entries_.end()) return nullptr;
  KeyBatch::Ptr batch = std::move(found->batch);
  keys_ -= batch->size();
  entries_.erase(found);
  size_ = entries_.size();
  ++taken_;
  return batch;
}

}  // namespace mxrec
