// PartWriter and PartReader: one data part, block by block. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/file_stream.h"
#include "checkpoint/format.h"
#include "checkpoint/listed_file.h"
#include "env/env.h"
#include "mxrec/table.h"

namespace mxrec::checkpoint {

struct PartInfo {
  uint64_t bytes = 0;
  uint64_t rows = 0;
};

class PartWriter {
 public:
  static Result<std::unique_ptr<PartWriter>> Create(Env* env, const std::string& path,
                                                    const Uid& uid, uint32_t part,
                                                    const RowLayout& layout);

  // Writes rows [begin, end) as one block; their payload is at most kMaxBlockPayload.
  Status AddBlock(const RowBlock& rows, size_t begin, size_t end);
  uint64_t bytes() const { return bytes_; }
  // Writes the trailer, syncs, closes.
  Result<PartInfo> Finish();

 private:
  PartWriter(std::unique_ptr<WritableFile> file, const RowLayout& layout)
      : file_(std::move(file)), layout_(layout) {}
  Status Append(const void* data, size_t bytes);

  std::unique_ptr<WritableFile> file_;
  const RowLayout layout_;
  uint64_t bytes_ = 0;
  uint64_t blocks_ = 0;
  uint64_t rows_ = 0;
  std::vector<char> buffer_;
};

// Trusts nothing in the file: no allocation is larger than a block that fits in it. What does not
// agree is kDataLoss with path and offset.
class PartReader {
 public:
  // `expected`: what the manifest says of this part.
  static Result<std::unique_ptr<PartReader>> Open(Env* env, const std::string& path, const Uid& uid,
                                                  uint32_t part, const RowLayout& layout,
                                                  const PartInfo& expected);

  // Replaces *rows by the next block; empty at the end of the part.
  Status Next(RowBlock* rows);
  // Where the block that Next returned last begins.
  uint64_t block_offset() const { return block_offset_; }

 private:
  PartReader(ListedFile file, const RowLayout& layout) : file_(std::move(file)), layout_(layout) {}
  Status CheckFrame(const Uid& uid, uint32_t part, const PartInfo& expected);
  Status CheckEnd() const;

  const ListedFile file_;
  const RowLayout layout_;
  PartTrailer trailer_;
  uint64_t end_ = 0;  // of the blocks
  uint64_t offset_ = 0;
  uint64_t block_offset_ = 0;
  uint64_t blocks_ = 0;
  uint64_t rows_ = 0;
  std::unique_ptr<FileStream> stream_;  // from the first Next on
};

}  // namespace mxrec::checkpoint
