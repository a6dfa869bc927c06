// ListedFile: a file of a checkpoint, of the size that the manifest says. Whatever else is there,
// or nothing, is kDataLoss with path and byte.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "env/env.h"

namespace mxrec::checkpoint {

class ListedFile {
 public:
  static Result<ListedFile> Open(Env* env, const std::string& path, uint64_t bytes);

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }
  const ReadableFile& file() const { return *file_; }
  Status ReadExactly(uint64_t offset, size_t bytes, void* out) const;

 private:
  ListedFile(std::unique_ptr<ReadableFile> file, std::string path, uint64_t bytes)
      : file_(std::move(file)), path_(std::move(path)), bytes_(bytes) {}

  std::unique_ptr<ReadableFile> file_;
  std::string path_;
  uint64_t bytes_;
};

// "<what> is <here>, <whose> <there>".
std::string Differs(const std::string& what, uint64_t here, uint64_t there, const char* whose);

}  // namespace mxrec::checkpoint
