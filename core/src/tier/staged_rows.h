// StagedRows: rows that have been read from SSD ahead of the batch that needs them, or are being
// read.
//
// A staged row is a copy of a record that stays where it is; the batch takes the copy instead of
// reading, and waits for one that is on its way. So nothing depends on whether a row is staged, and
// one that is never taken makes room for later ones. Memory for the most rows that there have been
// at once is kept for those to come.
//
// Invariant: a staged copy is that of the record that its key has on SSD. Put is called under the
// shard's lock, after a look at the index; Drop when a key's record changes or goes, under that
// lock exclusively. Thread-safe; calls take many rows at a time, because a batch that takes rows
// and the threads that bring those of later ones meet here.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "index/key_index.h"
#include "util/mutex.h"
#include "util/page_allocator.h"

namespace mxrec {

class StagedRows {
 public:
  StagedRows(PageAllocator* pages, size_t row_bytes, size_t most_rows)
      : row_bytes_(row_bytes), most_(most_rows), index_(pages, 0) {}

  size_t most_rows() const { return most_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  int64_t bytes() const;

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
  void Begin(std::span<const int64_t> keys, std::span<uint8_t> mine);
  // May throw. The rows that have waited longest make room.
  void Put(std::span<const In> in);
  // After Begin: none of these is being read any more.
  void Finish(std::span<const int64_t> keys, std::span<const uint8_t> mine);
  // Copies rows out. copied[i] = 0: the row is not here. Waits for rows that are being read if they
  // are a part of the batch that matters: a few are those that a later batch needs as well, with
  // which they come when all of that is read; who wants them now is faster alone.
  void Copy(std::span<const Out> out, std::span<uint8_t> copied);
  void Drop(std::span<const int64_t> keys);

 private:
  static constexpr size_t kFew = 8;  // less than one in so many rows of a batch are few
  static constexpr RowRef kBeingRead = kNoRow - 1;  // instead of a place
  static constexpr size_t kChunk = 256;             // places whose rows have memory in one piece

  struct Place {
    int64_t key;
    uint64_t number;  // of the row that was put here; kEmpty: none
  };
  static constexpr uint64_t kEmpty = 0;
  struct Turn {
    uint64_t number;
    RowRef place;
  };

  char* RowAt(RowRef place) const MXREC_REQUIRES(mu_) {
    return chunks_[place / kChunk].get() + place % kChunk * row_bytes_;
  }
  // Calls visit(i, what the index has of keys(i)) for i below n, with the lines that this needs,
  // and the row if `rows`, on their way before they are needed. visit may change the index.
  template <class KeyOf, class Visit>
  void ForEach(size_t n, bool rows, KeyOf&& key, Visit&& visit) MXREC_REQUIRES(mu_);
  bool CopyOne(RowRef place, const Out& out, uint8_t* copied) const MXREC_REQUIRES(mu_);
  RowRef TakePlace() MXREC_REQUIRES(mu_);       // may throw
  void Erase(int64_t key) MXREC_REQUIRES(mu_);  // which is there
  void MakeRoom() MXREC_REQUIRES(mu_);
  void Tidy() MXREC_REQUIRES(mu_);  // the queue, of turns whose rows have gone

  const size_t row_bytes_;
  const size_t most_;
  std::atomic<size_t> size_{0};
  mutable Mutex mu_;
  Condition put_;  // rows, or they are not being read any more
  KeyIndex index_ MXREC_GUARDED_BY(mu_);
  std::vector<Place> places_ MXREC_GUARDED_BY(mu_);
  std::vector<RowRef> free_ MXREC_GUARDED_BY(mu_);  // has room for all places
  std::vector<std::unique_ptr<char[]>> chunks_ MXREC_GUARDED_BY(mu_);
  std::deque<Turn> order_ MXREC_GUARDED_BY(mu_);  // oldest first
  uint64_t next_ MXREC_GUARDED_BY(mu_) = kEmpty + 1;
};

}  // namespace mxrec
