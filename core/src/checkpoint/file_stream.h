// FileStream: a file's bytes from front to back, in memory. A thread reads ahead, in large pieces
// of whole blocks, so that the disk works while the caller does. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>

#include "checkpoint/listed_file.h"
#include "checkpoint/read_ahead.h"
#include "env/aligned_bytes.h"

namespace mxrec::checkpoint {

class FileStream {
 public:
  // From the block on that `offset` is in. The file outlives the stream.
  FileStream(const ListedFile* file, uint64_t offset);

  // These bytes of the file, contiguous, until the next call. `offset` never decreases.
  Result<const char*> View(uint64_t offset, size_t bytes);

 private:
  // A part of the file, with room before it for the end of the part before.
  struct Piece {
    std::unique_ptr<AlignedBytes> memory;
    size_t bytes = 0;
    size_t size() const { return bytes; }
    void clear() { bytes = 0; }
  };
  static Status Fetch(const ListedFile& file, uint64_t offset, Piece* piece);
  Status Extend(uint64_t offset);

  const ListedFile* const file_;
  // Of the file, [begin_, end_) is at data_.
  uint64_t begin_;
  uint64_t end_;
  const char* data_ = nullptr;
  Piece piece_;                           // that data_ points into
  Piece spare_;                           // whose memory the thread gets
  std::unique_ptr<AlignedBytes> joined_;  // instead of piece_: what the room before it cannot take
  ReadAhead<Piece> source_;
};

}  // namespace mxrec::checkpoint
