// Files for random access in whole blocks, past the page cache where the file system allows it, and
// reads of many blocks at once. Part of Env (env.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "mxrec/status.h"

namespace mxrec {

// Offsets, sizes and memory addresses of direct files are multiples of it.
inline constexpr size_t kBlockBytes = 4096;
inline constexpr uint64_t RoundToBlocks(uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// Thread-safe; writes at the same time go to different blocks.
class MXREC_API DirectFile {
 public:
  virtual ~DirectFile() = default;
  // The file gets this size, and the file system keeps room for all of it, so that a full disk
  // shows here and not in a write. What was not written reads as zeros.
  virtual Status Allocate(uint64_t bytes) = 0;
  // After an error any part of it may be written; writing it again is allowed.
  virtual Status Write(uint64_t offset, const void* data, size_t bytes) = 0;
  virtual Status Truncate(uint64_t bytes) = 0;
  virtual Status Sync() = 0;
  virtual Result<uint64_t> Size() const = 0;
  // False: this file system offers no direct I/O, and the page cache is in between.
  virtual bool direct() const = 0;
};

// One read of a batch: `bytes` at `offset` of `file` go to `out`. A file that ends before that is
// kDataLoss.
struct BlockRead {
  const DirectFile* file = nullptr;  // of the Env that made the reader
  uint64_t offset = 0;
  size_t bytes = 0;
  void* out = nullptr;
  Status status;
};

enum class ReadMethod : uint8_t {
  kUring,  // io_uring: one thread keeps many reads under way
  kPread,  // pread on the engine's worker threads
};

// Reads batches of blocks. Not thread-safe: one batch at a time.
class MXREC_API BatchReader {
 public:
  virtual ~BatchReader() = default;
  using Call = std::function<void(BlockRead&)>;
  // Returns when every read has its status. start(read) is called once for each before it begins,
  // and may set its `out`; done(read) as soon as it has its status. Both are called on any thread,
  // for several reads at the same time; at most the reader's depth are between the two.
  virtual void Read(std::span<BlockRead> reads, const Call& start, const Call& done) = 0;
  virtual ReadMethod method() const = 0;
};

// A lock on a file or directory, held until the object goes. The system releases those of a process
// that ends.
class MXREC_API PathLock {
 public:
  virtual ~PathLock() = default;
};

}  // namespace mxrec
