// Direct files, batch readers and locks of POSIX and Linux.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "env/direct_file.h"

namespace mxrec {

class PosixDirectFile : public DirectFile {
 public:
  static Result<std::unique_ptr<DirectFile>> Create(const std::string& path);
  static Result<std::unique_ptr<DirectFile>> Open(const std::string& path);
  ~PosixDirectFile() override;

  Status Allocate(uint64_t bytes) override;
  Status Write(uint64_t offset, const void* data, size_t bytes) override;
  Status Truncate(uint64_t bytes) override;
  Status Sync() override;
  Result<uint64_t> Size() const override;
  bool direct() const override { return direct_; }

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  // Reads what is left of `read` behind its first `done` bytes.
  void Finish(BlockRead* read, size_t done) const;

 private:
  PosixDirectFile(std::string path, int fd, bool direct)
      : path_(std::move(path)), fd_(fd), direct_(direct) {}
  static Result<std::unique_ptr<DirectFile>> OpenWith(const std::string& path, int flags,
                                                      const char* action);

  const std::string path_;
  const int fd_;
  const bool direct_;
};

Result<std::unique_ptr<BatchReader>> NewUringReader(uint32_t depth);
Result<std::unique_ptr<BatchReader>> NewPreadReader(uint32_t depth);
Result<std::unique_ptr<PathLock>> TryLockPath(const std::string& path);

}  // namespace mxrec
