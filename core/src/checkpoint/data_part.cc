#include "checkpoint/data_part.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/checksum.h"
#include "kernels/half.h"

namespace mxrec::checkpoint {
namespace {

// Headers keep their checksum in a field; the rest is what it covers.
uint64_t ChecksumOf(const PartHeader& h) { return Checksum(&h, offsetof(PartHeader, checksum)); }
uint64_t ChecksumOf(const PartTrailer& t) { return Checksum(&t, offsetof(PartTrailer, checksum)); }

template <class T>
char* PutColumn(char* to, const std::vector<T>& column, size_t begin, size_t end) {
  const size_t bytes = (end - begin) * sizeof(T);
  if (bytes > 0) std::memcpy(to, column.data() + begin, bytes);
  return to + bytes;
}

template <class T>
const char* GetColumn(const char* from, size_t n, std::vector<T>* column) {
  column->resize(n);
  if (n > 0) std::memcpy(column->data(), from, n * sizeof(T));
  return from + n * sizeof(T);
}

// Rows of floats in the layout of the file: float32 rows as they are; else all slots, then all
// embeddings, which came out of 16 bits and go back without rounding.
void PutValues(char* to, const float* values, size_t n, const RowLayout& layout) {
  if (layout.type == ValueType::kFloat32) {
    const size_t bytes = n * layout.row_floats * sizeof(float);
    if (bytes > 0) std::memcpy(to, values, bytes);
    return;
  }
  const size_t slots = layout.slot_floats();
  std::vector<uint16_t> halves(layout.dim);
  char* embedding = to + n * slots * sizeof(float);
  for (size_t i = 0; i < n; ++i) {
    const float* row = values + i * layout.row_floats;
    kernels::DemoteRow(layout.type, row, layout.dim, halves.data());
    std::memcpy(embedding, halves.data(), layout.dim * sizeof(uint16_t));
    embedding += layout.dim * sizeof(uint16_t);
    if (slots > 0)
      std::memcpy(to + i * slots * sizeof(float), row + layout.dim, slots * sizeof(float));
  }
}

void GetValues(const char* from, size_t n, const RowLayout& layout, std::vector<float>* values) {
  if (layout.type == ValueType::kFloat32) {
    GetColumn(from, n * layout.row_floats, values);
    return;
  }
  values->resize(n * layout.row_floats);
  const size_t slots = layout.slot_floats();
  std::vector<uint16_t> halves(layout.dim);
  const char* embedding = from + n * slots * sizeof(float);
  for (size_t i = 0; i < n; ++i) {
    float* row = values->data() + i * layout.row_floats;
    std::memcpy(halves.data(), embedding, layout.dim * sizeof(uint16_t));
    embedding += layout.dim * sizeof(uint16_t);
    kernels::PromoteRow(layout.type, halves.data(), layout.dim, row);
    if (slots > 0)
      std::memcpy(row + layout.dim, from + i * slots * sizeof(float), slots * sizeof(float));
  }
}

}  // namespace

// --- PartWriter ---------------------------------------------------------------------------------

Result<std::unique_ptr<PartWriter>> PartWriter::Create(Env* env, const std::string& path,
                                                       const Uid& uid, uint32_t part,
                                                       const RowLayout& layout) {
  auto file = env->NewWritableFile(path);
  if (!file.ok()) return file.status();
  std::unique_ptr<PartWriter> writer(new PartWriter(std::move(file).value(), layout));
  PartHeader header;
  header.version = layout.version();
  header.part = part;
  header.uid = uid;
  header.row_floats = layout.row_floats;
  header.checksum = ChecksumOf(header);
  MXREC_RETURN_IF_ERROR(writer->Append(&header, sizeof(header)));
  return writer;
}

Status PartWriter::Append(const void* data, size_t bytes) {
  MXREC_RETURN_IF_ERROR(file_->Append(data, bytes));
  bytes_ += bytes;
  return {};
}

Status PartWriter::AddBlock(const RowBlock& rows, size_t begin, size_t end) {
  const size_t n = end - begin;
  BlockHeader header;
  header.rows = static_cast<uint32_t>(n);
  header.payload_bytes = n * layout_.bytes();
  header.offset = bytes_;

  buffer_.resize(sizeof(header) + header.payload_bytes);
  char* to = buffer_.data() + sizeof(header);
  to = PutColumn(to, rows.keys, begin, end);
  to = PutColumn(to, rows.frequency, begin, end);
  to = PutColumn(to, rows.last_time, begin, end);
  PutValues(to, rows.values.data() + begin * layout_.row_floats, n, layout_);

  std::memcpy(buffer_.data(), &header, sizeof(header));
  constexpr size_t kCovered = offsetof(BlockHeader, magic);
  header.checksum = Checksum(buffer_.data() + kCovered, buffer_.size() - kCovered);
  std::memcpy(buffer_.data(), &header, sizeof(header));

  MXREC_RETURN_IF_ERROR(Append(buffer_.data(), buffer_.size()));
  ++blocks_;
  rows_ += n;
  return {};
}

Result<PartInfo> PartWriter::Finish() {
  PartTrailer trailer;
  trailer.blocks = blocks_;
  trailer.rows = rows_;
  trailer.bytes = bytes_ + sizeof(trailer);
  trailer.checksum = ChecksumOf(trailer);
  MXREC_RETURN_IF_ERROR(Append(&trailer, sizeof(trailer)));
  MXREC_RETURN_IF_ERROR(file_->Sync());
  MXREC_RETURN_IF_ERROR(file_->Close());
  return PartInfo{bytes_, rows_};
}

// --- PartReader ---------------------------------------------------------------------------------

Result<std::unique_ptr<PartReader>> PartReader::Open(Env* env, const std::string& path,
                                                     const Uid& uid, uint32_t part,
                                                     const RowLayout& layout,
                                                     const PartInfo& expected) {
  auto file = ListedFile::Open(env, path, expected.bytes);
  if (!file.ok()) return file.status();
  std::unique_ptr<PartReader> reader(new PartReader(std::move(file).value(), layout));
  MXREC_RETURN_IF_ERROR(reader->CheckFrame(uid, part, expected));
  return reader;
}

Status PartReader::CheckFrame(const Uid& uid, uint32_t part, const PartInfo& expected) {
  if (expected.bytes < sizeof(PartHeader) + sizeof(PartTrailer)) {
    return Damaged(file_.path(), expected.bytes,
                   "the file is too short for its header and trailer");
  }

  PartHeader header;
  MXREC_RETURN_IF_ERROR(file_.ReadExactly(0, sizeof(header), &header));
  if (header.magic != PartHeader::kMagic) return Damaged(file_.path(), 0, "this is no data part");
  if (header.checksum != ChecksumOf(header)) {
    return Damaged(file_.path(), 0, "the checksum of the header does not match");
  }
  if (header.version != layout_.version()) {
    return Damaged(file_.path(), offsetof(PartHeader, version),
                   Differs("the version", header.version, layout_.version(), "the manifest's is"));
  }
  if (header.part != part) {
    return Damaged(file_.path(), offsetof(PartHeader, part),
                   Differs("the part number", header.part, part, "the file's name says"));
  }
  if (header.uid != uid) {
    return Damaged(
        file_.path(), offsetof(PartHeader, uid),
        "the file is of checkpoint " + ToHex(header.uid) + ", the manifest of " + ToHex(uid));
  }
  if (header.row_floats != layout_.row_floats) {
    return Damaged(
        file_.path(), offsetof(PartHeader, row_floats),
        Differs("floats per row", header.row_floats, layout_.row_floats, "the manifest says"));
  }

  end_ = expected.bytes - sizeof(PartTrailer);
  offset_ = sizeof(PartHeader);
  MXREC_RETURN_IF_ERROR(file_.ReadExactly(end_, sizeof(trailer_), &trailer_));
  if (trailer_.magic != PartTrailer::kMagic || trailer_.checksum != ChecksumOf(trailer_)) {
    return Damaged(file_.path(), end_, "the checksum of the trailer does not match");
  }
  if (trailer_.bytes != expected.bytes) {
    return Damaged(file_.path(), end_,
                   Differs("bytes", trailer_.bytes, expected.bytes, "the manifest says"));
  }
  if (trailer_.rows != expected.rows) {
    return Damaged(file_.path(), end_,
                   Differs("rows", trailer_.rows, expected.rows, "the manifest says"));
  }
  return {};
}

Status PartReader::CheckEnd() const {
  if (blocks_ != trailer_.blocks) {
    return Damaged(file_.path(), end_,
                   Differs("the number of blocks", blocks_, trailer_.blocks, "the trailer says"));
  }
  if (rows_ != trailer_.rows) {
    return Damaged(file_.path(), end_,
                   Differs("the number of rows", rows_, trailer_.rows, "the trailer says"));
  }
  return {};
}

Status PartReader::Next(RowBlock* rows) {
  // Not cleared before: what is made larger again is filled with zeros.
  if (offset_ == end_) {
    rows->clear();
    return CheckEnd();
  }

  if (stream_ == nullptr) stream_ = std::make_unique<FileStream>(&file_, offset_);
  BlockHeader header;
  if (end_ - offset_ < sizeof(header)) {
    return Damaged(file_.path(), offset_, "the block header does not fit before the trailer");
  }
  const auto head = stream_->View(offset_, sizeof(header));
  if (!head.ok()) return head.status();
  std::memcpy(&header, head.value(), sizeof(header));
  if (header.magic != BlockHeader::kMagic || header.offset != offset_) {
    return Damaged(file_.path(), offset_, "no block begins here");
  }
  // rows is 32 bits and row_floats below 2^15, so the product fits.
  if (header.rows == 0 || header.payload_bytes != header.rows * layout_.bytes() ||
      header.payload_bytes > kMaxBlockPayload ||
      header.payload_bytes > end_ - offset_ - sizeof(header)) {
    return Damaged(file_.path(), offset_,
                   "a block of " + std::to_string(header.rows) + " rows and " +
                       std::to_string(header.payload_bytes) + " bytes cannot be here");
  }

  constexpr size_t kCovered = offsetof(BlockHeader, magic);
  const size_t bytes = sizeof(header) + header.payload_bytes;
  const auto block = stream_->View(offset_, bytes);
  if (!block.ok()) return block.status();
  if (Checksum(block.value() + kCovered, bytes - kCovered) != header.checksum) {
    return Damaged(file_.path(), offset_,
                   "the checksum of the block does not match (it ends at byte " +
                       std::to_string(offset_ + bytes) + ")");
  }

  const size_t n = header.rows;
  const char* from = block.value() + sizeof(header);
  from = GetColumn(from, n, &rows->keys);
  from = GetColumn(from, n, &rows->frequency);
  from = GetColumn(from, n, &rows->last_time);
  GetValues(from, n, layout_, &rows->values);
  block_offset_ = offset_;
  offset_ += bytes;
  ++blocks_;
  rows_ += n;
  return {};
}

}  // namespace mxrec::checkpoint
