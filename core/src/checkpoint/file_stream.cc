#include "checkpoint/file_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "checkpoint/format.h"

namespace mxrec::checkpoint {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
// Writers end a block after 1 MiB.
constexpr size_t kRoomBytes = (size_t{1} << 20) + (size_t{64} << 10);

}  // namespace

FileStream::FileStream(const ListedFile* file, uint64_t offset)
    : file_(file),
      begin_(offset / kBlockBytes * kBlockBytes),
      end_(begin_),
      source_([file, at = begin_](Piece* piece) mutable {
        const Status status = Fetch(*file, at, piece);
        at += piece->bytes;
        return status;
      }) {}

Status FileStream::Fetch(const ListedFile& file, uint64_t offset, Piece* piece) {
  piece->bytes = 0;
  if (offset >= file.bytes()) return {};
  const size_t most = std::min<uint64_t>(kPieceBytes, RoundToBlocks(file.bytes()));
  if (piece->memory == nullptr) {
    piece->memory = std::make_unique<AlignedBytes>(kRoomBytes + most, false);
  }
  const size_t bytes = std::min<uint64_t>(most, RoundToBlocks(file.bytes() - offset));
  const auto read = file.file().Read(offset, bytes, piece->memory->get() + kRoomBytes);
  if (!read.ok()) return read.status();
  piece->bytes = std::min<uint64_t>(read.value(), file.bytes() - offset);
  return {};
}

Result<const char*> FileStream::View(uint64_t offset, size_t bytes) {
  if (offset < begin_) return Internal("a file stream does not go back");
  if (bytes > file_->bytes() || offset > file_->bytes() - bytes) {
    return Damaged(file_->path(), file_->bytes(), "the file ends here");
  }
  while (offset + bytes > end_) MXREC_RETURN_IF_ERROR(Extend(offset));
  return data_ + (offset - begin_);
}

// By the next piece; what lies before `offset` is forgotten.
Status FileStream::Extend(uint64_t offset) {
  MXREC_RETURN_IF_ERROR(source_.Next(&spare_));
  if (spare_.bytes == 0) return Damaged(file_->path(), end_, "the file ends here");
  const uint64_t keep = std::min(offset, end_);
  const size_t kept = end_ - keep;
  const char* const tail = data_ + (keep - begin_);
  char* const read = spare_.memory->get() + kRoomBytes;
  char* to;
  std::unique_ptr<AlignedBytes> joined;
  if (kept <= kRoomBytes) {
    to = read - kept;
  } else {
    joined = std::make_unique<AlignedBytes>(RoundToBlocks(kept + spare_.bytes), false);
    to = joined->get();
    std::memcpy(to + kept, read, spare_.bytes);
  }
  if (kept > 0) std::memcpy(to, tail, kept);
  data_ = to;
  begin_ = keep;
  end_ += spare_.bytes;
  joined_ = std::move(joined);
  std::swap(piece_, spare_);
  return {};
}

}  // namespace mxrec::checkpoint
