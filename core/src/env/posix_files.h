// Files that are written from front to back and files that are read anywhere, of POSIX. What is
// large goes past the page cache where the file system allows it: a checkpoint is written once and
// read once, and the copies and the cache's memory cost more than the disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "env/aligned_bytes.h"
#include "env/env.h"

namespace mxrec {

class PosixWritableFile : public WritableFile {
 public:
  // An empty file, whatever was there.
  static Result<std::unique_ptr<WritableFile>> Create(const std::string& path);
  ~PosixWritableFile() override;

  Status Append(const void* data, size_t bytes) override;
  Status Sync() override;
  Status Close() override;

 private:
  PosixWritableFile(std::string path, int fd);
  bool SetDirect(bool on) const;
  Status Flush();      // the buffer, which is full
  Status FlushTail();  // whatever is in it
  Status WriteBuffer(size_t bytes);
  void StartWriting();

  // Whole buffers may be written directly until part of one was written.
  enum class Mode : uint8_t { kUndecided, kDirect, kCached };

  const std::string path_;
  int fd_;
  Mode mode_ = Mode::kUndecided;
  const AlignedBytes buffer_;
  size_t filled_ = 0;
  off_t written_ = 0;
  off_t started_ = 0;  // of written_, what the system has been told to write
  Status failed_;      // a write that did; nothing is written after it
};

// Direct for reads of many whole blocks to aligned memory that the page cache does not hold.
class PosixReadableFile : public ReadableFile {
 public:
  static Result<std::unique_ptr<ReadableFile>> Open(const std::string& path);
  ~PosixReadableFile() override;

  Result<size_t> Read(uint64_t offset, size_t bytes, void* out) const override;
  Result<uint64_t> Size() const override;

 private:
  PosixReadableFile(std::string path, int fd, int direct_fd)
      : path_(std::move(path)), fd_(fd), direct_fd_(direct_fd) {}
  bool IsCached(uint64_t offset, size_t bytes) const;
  size_t ReadDirect(uint64_t offset, size_t bytes, char* to) const;

  const std::string path_;
  const int fd_;
  const int direct_fd_;  // -1: none
};

}  // namespace mxrec
