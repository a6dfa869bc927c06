#include "checkpoint/listed_file.h"

#include <algorithm>

#include "checkpoint/format.h"

namespace mxrec::checkpoint {

Result<ListedFile> ListedFile::Open(Env* env, const std::string& path, uint64_t bytes) {
  auto file = env->NewReadableFile(path);
  if (!file.ok()) {
    if (file.status().code() != StatusCode::kNotFound) return file.status();
    return Damaged(path, 0, "the manifest lists this file, but it is missing");
  }
  const auto size = file.value()->Size();
  if (!size.ok()) return size.status();
  if (size.value() != bytes) {
    return Damaged(path, std::min(size.value(), bytes),
                   Differs("the file's size", size.value(), bytes, "the manifest says"));
  }
  return ListedFile(std::move(file).value(), path, bytes);
}

Status ListedFile::ReadExactly(uint64_t offset, size_t bytes, void* out) const {
  const auto read = file_->Read(offset, bytes, out);
  if (!read.ok()) return read.status();
  if (read.value() != bytes) return Damaged(path_, offset + read.value(), "the file ends here");
  return {};
}

std::string Differs(const std::string& what, uint64_t here, uint64_t there, const char* whose) {
  return what + " is " + std::to_string(here) + ", " + whose + " " + std::to_string(there);
}

}  // namespace mxrec::checkpoint
