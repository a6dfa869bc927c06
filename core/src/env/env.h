// Env: every file operation and clock of the engine goes through one interface, so that tests can
// make the n-th one fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "env/direct_file.h"
#include "mxrec/status.h"

namespace mxrec {

// A file that is written from front to back. An error of a write may come with a later call, and
// stays: every call after it returns it. Not thread-safe.
class MXREC_API WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual Status Append(const void* data, size_t bytes) = 0;
  virtual Status Sync() = 0;   // the data is on the disk
  virtual Status Close() = 0;  // idempotent; the destructor closes without a report
};

// Thread-safe positional reads.
class MXREC_API ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Reads up to `bytes` at `offset`; fewer only at the end of the file. Returns the bytes read.
  virtual Result<size_t> Read(uint64_t offset, size_t bytes, void* out) const = 0;
  virtual Result<uint64_t> Size() const = 0;
};

// Errors name the path and the operating system's reason. Thread-safe.
class MXREC_API Env {
 public:
  virtual ~Env() = default;
  static Env* Default();  // POSIX; lives as long as the process

  virtual Result<std::unique_ptr<WritableFile>> NewWritableFile(const std::string& path) = 0;
  virtual Result<std::unique_ptr<ReadableFile>> NewReadableFile(const std::string& path) = 0;
  virtual Result<bool> Exists(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> List(const std::string& dir) = 0;  // names, sorted
  virtual Status CreateDir(const std::string& dir) = 0;                       // ok if it is there
  virtual Status Rename(const std::string& from, const std::string& to) = 0;  // replaces a file
  // A second name for a file. False: the file system of `to` can have none for it, because the file
  // is on another one or links are not to be had there.
  virtual Result<bool> Link(const std::string& from, const std::string& to) = 0;
  virtual Status DeleteFile(const std::string& path) = 0;
  virtual Status DeleteTree(const std::string& dir) = 0;  // ok if it is not there
  virtual Status SyncDir(const std::string& dir) = 0;
  virtual uint64_t NowMicros() = 0;  // wall clock

  // kAlreadyExists when there is such a file.
  virtual Result<std::unique_ptr<DirectFile>> CreateDirectFile(const std::string& path) = 0;
  virtual Result<std::unique_ptr<DirectFile>> OpenDirectFile(const std::string& path) = 0;
  // At most `depth` reads are under way at a time. The error of kUring says why the kernel refuses.
  virtual Result<std::unique_ptr<BatchReader>> NewBatchReader(ReadMethod method,
                                                              uint32_t depth) = 0;
  // Null when somebody else, in this process or another, holds it.
  virtual Result<std::unique_ptr<PathLock>> TryLock(const std::string& path) = 0;
};

}  // namespace mxrec
