#include "tier/staged_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "util/prefetch.h"

namespace mxrec {

int64_t StagedRows::bytes() const {
  const MutexLock lock(mu_);
  return index_.bytes() +
         static_cast<int64_t>(chunks_.size() * kChunk * row_bytes_ +
                              places_.capacity() * sizeof(Place) +
                              free_.capacity() * sizeof(RowRef) + order_.size() * sizeof(Turn));
}

template <class KeyOf, class Visit>
void StagedRows::ForEach(size_t n, bool rows, KeyOf&& key, Visit&& visit) {
  constexpr size_t kGroup = 16;
  std::array<uint64_t, kGroup> hashes;
  for (size_t begin = 0; begin < n; begin += kGroup) {
    const size_t group = std::min(kGroup, n - begin);
    for (size_t i = 0; i < group; ++i) {
      hashes[i] = HashKey(key(begin + i));
      Prefetch(index_.HomeBucket(hashes[i]));
    }
    if (rows) {
      for (size_t i = 0; i < group; ++i) {
        const RowRef place = index_.Find(hashes[i], key(begin + i));
        if (place < kBeingRead) PrefetchRange(RowAt(place), row_bytes_);
      }
    }
    for (size_t i = 0; i < group; ++i) {
      visit(begin + i, index_.Find(hashes[i], key(begin + i)));
    }
  }
}

void StagedRows::Begin(std::span<const int64_t> keys, std::span<uint8_t> mine) {
  std::ranges::fill(mine, uint8_t{0});
  const MutexLock lock(mu_);
  ForEach(
      keys.size(), false, [&](size_t i) { return keys[i]; },
      [&](size_t i, RowRef place) MXREC_REQUIRES(mu_) {
        if (place != kNoRow) return;
        if (!index_.Insert(HashKey(keys[i]), keys[i], kBeingRead)) throw std::bad_alloc();
        mine[i] = 1;
        size_ = index_.size();
      });
}

void StagedRows::Put(std::span<const In> in) {
  {
    const MutexLock lock(mu_);
    ForEach(
        in.size(), false, [&](size_t i) { return in[i].key; },
        [&](size_t i, RowRef at) MXREC_REQUIRES(mu_) {
          if (at != kBeingRead) return;  // it has left SSD since Begin
          const RowRef place = TakePlace();
          try {
            order_.push_back({next_, place});
          } catch (...) {
            free_.push_back(place);
            throw;
          }
          places_[place] = {in[i].key, next_++};
          std::memcpy(RowAt(place), in[i].row, row_bytes_);
          index_.Replace(HashKey(in[i].key), in[i].key, place);
        });
    MakeRoom();
  }
  put_.NotifyAll();
}

void StagedRows::Finish(std::span<const int64_t> keys, std::span<const uint8_t> mine) {
  {
    const MutexLock lock(mu_);
    for (size_t i = 0; i < keys.size(); ++i) {
      if (mine[i] != 0 && index_.Find(HashKey(keys[i]), keys[i]) == kBeingRead) Erase(keys[i]);
    }
    size_ = index_.size();
  }
  put_.NotifyAll();
}

void StagedRows::Copy(std::span<const Out> out, std::span<uint8_t> copied) {
  std::ranges::fill(copied, uint8_t{0});
  if (size() == 0) return;
  const MutexLock lock(mu_);
  std::vector<size_t> coming;
  ForEach(
      out.size(), true, [&](size_t i) { return out[i].key; },
      [&](size_t i, RowRef place) MXREC_REQUIRES(mu_) {
        if (CopyOne(place, out[i], &copied[i])) coming.push_back(i);
      });
  if (coming.size() < out.size() / kFew) return;
  for (const size_t i : coming) {
    const uint64_t hash = HashKey(out[i].key);
    while (CopyOne(index_.Find(hash, out[i].key), out[i], &copied[i])) put_.Wait(mu_);
  }
}

// True: it is being read.
bool StagedRows::CopyOne(RowRef place, const Out& out, uint8_t* copied) const {
  if (place == kNoRow) return false;
  if (place == kBeingRead) return true;
  std::memcpy(out.row, RowAt(place), row_bytes_);
  *copied = 1;
  return false;
}

void StagedRows::Drop(std::span<const int64_t> keys) {
  if (size() == 0) return;
  const MutexLock lock(mu_);
  ForEach(
      keys.size(), false, [&](size_t i) { return keys[i]; },
      [&](size_t i, RowRef place) MXREC_REQUIRES(mu_) {
        if (place != kNoRow) Erase(keys[i]);
      });
  size_ = index_.size();
  if (order_.size() > 4 * most_ + 1024) Tidy();
}

RowRef StagedRows::TakePlace() {
  if (free_.empty()) {
    const auto first = static_cast<RowRef>(places_.size());
    free_.reserve(first + kChunk);
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(kChunk * row_bytes_));
    try {
      places_.resize(first + kChunk, {0, kEmpty});
    } catch (...) {
      chunks_.pop_back();
      throw;
    }
    for (size_t i = kChunk; i > 0; --i) free_.push_back(first + static_cast<RowRef>(i) - 1);
  }
  const RowRef place = free_.back();
  free_.pop_back();
  return place;
}

void StagedRows::Erase(int64_t key) {
  const RowRef place = index_.Erase(HashKey(key), key);
  if (place == kBeingRead) return;
  places_[place].number = kEmpty;
  free_.push_back(place);
}

void StagedRows::MakeRoom() {
  for (; index_.size() > most_ && order_.size() > 1; order_.pop_front()) {
    const auto [number, place] = order_.front();
    if (places_[place].number == number) Erase(places_[place].key);
  }
  size_ = index_.size();
}

void StagedRows::Tidy() {
  std::erase_if(order_, [&](const Turn& turn) MXREC_REQUIRES(mu_) {
    return places_[turn.place].number != turn.number;
  });
}

}  // namespace mxrec
