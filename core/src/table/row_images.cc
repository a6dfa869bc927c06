#include "table/row_images.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace mxrec {

uint32_t RowImages::NewRecord(const int64_t* key, const RowMeta& meta, const float* row) {
  if (free_.empty()) {
    const auto first = static_cast<uint32_t>(records_.size());
    const size_t records = first + kChunkRecords;
    // So that Drop cannot fail.
    if (free_.capacity() < records) free_.reserve(std::max(2 * free_.capacity(), records));
    records_.resize(records);
    try {
      chunks_.push_back(std::make_unique_for_overwrite<char[]>(kChunkRecords * row_bytes_));
    } catch (const std::bad_alloc&) {
      records_.resize(first);
      throw;
    }
    for (uint32_t i = kChunkRecords; i-- > 0;) free_.push_back(first + i);
  }
  const uint32_t record = free_.back();
  free_.pop_back();
  records_[record] = {key == nullptr ? 0 : *key, meta.frequency, meta.last_time, key != nullptr};
  std::memcpy(RowOf(record), row, row_bytes_);
  bytes_held_->fetch_add(static_cast<int64_t>(held_bytes()), std::memory_order_relaxed);
  return record;
}

void RowImages::Drop(uint32_t record) {
  free_.push_back(record);
  bytes_held_->fetch_sub(static_cast<int64_t>(held_bytes()), std::memory_order_relaxed);
}

bool RowImages::Add(RowRef ref, const int64_t* key, const RowMeta& meta, const float* row) try {
  const MutexLock lock(mu_);
  const auto [at, fresh] = by_slot_.try_emplace(ref, 0);
  if (!fresh) return true;
  try {
    if (key != nullptr) keyed_.push_back(ref);
    at->second = NewRecord(key, meta, row);
  } catch (const std::bad_alloc&) {
    by_slot_.erase(at);
    throw;
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

void RowImages::Move(RowRef from, RowRef to) {
  const MutexLock lock(mu_);
  auto node = by_slot_.extract(from);
  if (node.empty()) return;
  node.key() = to;
  by_slot_.insert(std::move(node));
}

bool RowImages::Orphan(RowRef ref, int64_t key) try {
  const MutexLock lock(mu_);
  const auto found = by_slot_.find(ref);
  if (found == by_slot_.end()) return true;
  orphans_.push_back(found->second);
  records_[found->second].key = key;
  records_[found->second].has_key = true;
  by_slot_.erase(found);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

bool RowImages::AddOrphan(int64_t key, const RowMeta& meta, const float* row) try {
  const MutexLock lock(mu_);
  orphans_.push_back(0);
  try {
    orphans_.back() = NewRecord(&key, meta, row);
  } catch (const std::bad_alloc&) {
    orphans_.pop_back();
    throw;
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

RowImages::~RowImages() { Clear(); }

RowImages::Remains RowImages::Clear() {
  const MutexLock lock(mu_);
  const size_t held = by_slot_.size() + orphans_.size();
  bytes_held_->fetch_sub(static_cast<int64_t>(held * held_bytes()), std::memory_order_relaxed);
  Remains remains;
  remains.by_slot_.swap(by_slot_);
  remains.keyed_.swap(keyed_);
  remains.orphans_.swap(orphans_);
  remains.records_.swap(records_);
  remains.free_.swap(free_);
  remains.chunks_.swap(chunks_);
  return remains;
}

}  // namespace mxrec
