#include "checkpoint/segment_part.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "checkpoint/checksum.h"
#include "checkpoint/paths.h"
#include "tier/ssd_tier.h"

namespace mxrec::checkpoint {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 20;  // of pages at a time, about

uint64_t HeaderChecksum(const SegmentRowsHeader& header) {
  return Checksum(&header, offsetof(SegmentRowsHeader, checksum));
}

}  // namespace

std::string SegmentFile(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof(name), "segment-%05llu", static_cast<unsigned long long>(number));
  return name;
}

// --- Which records are rows ---------------------------------------------------------------------

Result<uint64_t> WriteSegmentRows(Env* env, const std::string& dir, const Uid& uid,
                                  const std::vector<SnapshotSegment>& segments) {
  std::vector<uint64_t> words;
  for (const SnapshotSegment& segment : segments) {
    words.insert(words.end(), segment.bits.begin(), segment.bits.end());
  }
  SegmentRowsHeader header;
  header.segments = static_cast<uint32_t>(segments.size());
  header.uid = uid;
  header.words = words.size();
  header.checksum = HeaderChecksum(header);
  words.push_back(Checksum(words.data(), words.size() * sizeof(uint64_t)));
  auto file = env->NewWritableFile(JoinPath(dir, kSegmentRowsFile));
  if (!file.ok()) return file.status();
  MXREC_RETURN_IF_ERROR(file.value()->Append(&header, sizeof(header)));
  MXREC_RETURN_IF_ERROR(file.value()->Append(words.data(), words.size() * sizeof(uint64_t)));
  MXREC_RETURN_IF_ERROR(file.value()->Sync());
  MXREC_RETURN_IF_ERROR(file.value()->Close());
  return sizeof(header) + words.size() * sizeof(uint64_t);
}

Result<SegmentBits> ReadSegmentRows(Env* env, const std::string& dir, const Uid& uid,
                                    const std::vector<SegmentInfo>& segments, uint64_t bytes) {
  const std::string path = JoinPath(dir, kSegmentRowsFile);
  auto file = ListedFile::Open(env, path, bytes);
  if (!file.ok()) return file.status();
  uint64_t words = 0;
  for (const SegmentInfo& segment : segments) words += BitWords(segment.records);
  const uint64_t wanted = sizeof(SegmentRowsHeader) + (words + 1) * sizeof(uint64_t);
  if (bytes != wanted) {
    return Damaged(path, std::min(bytes, wanted),
                   Differs("the file's size", bytes, wanted, "the segments' records need"));
  }
  std::vector<char> data(bytes);
  MXREC_RETURN_IF_ERROR(file.value().ReadExactly(0, bytes, data.data()));

  SegmentRowsHeader header;
  std::memcpy(&header, data.data(), sizeof(header));
  if (header.magic != SegmentRowsHeader::kMagic) {
    return Damaged(path, 0, "this is no file of segments' rows");
  }
  if (header.checksum != HeaderChecksum(header)) {
    return Damaged(path, 0, "the checksum of the header does not match");
  }
  if (header.version != 1 || header.segments != segments.size() || header.words != words) {
    return Damaged(path, 0, "version or sizes in the header are not those of the manifest");
  }
  if (header.uid != uid) {
    return Damaged(
        path, offsetof(SegmentRowsHeader, uid),
        "the file is of checkpoint " + ToHex(header.uid) + ", the manifest of " + ToHex(uid));
  }
  uint64_t checksum;
  std::memcpy(&checksum, data.data() + bytes - sizeof(checksum), sizeof(checksum));
  if (checksum != Checksum(data.data() + sizeof(header), words * sizeof(uint64_t))) {
    return Damaged(path, sizeof(header), "the checksum of the rows does not match");
  }

  SegmentBits all;
  uint64_t at = sizeof(header);
  for (const SegmentInfo& segment : segments) {
    std::vector<uint64_t>& bits = all.emplace_back(BitWords(segment.records));
    std::memcpy(bits.data(), data.data() + at, bits.size() * sizeof(uint64_t));
    uint64_t rows = 0;
    for (const uint64_t word : bits) rows += static_cast<uint64_t>(std::popcount(word));
    if (rows != segment.rows) {
      return Damaged(path, at,
                     Differs("the number of rows", rows, segment.rows, "the manifest says"));
    }
    if (segment.records % 64 != 0 && bits.back() >> (segment.records % 64) != 0) {
      return Damaged(path, at, "a row lies behind the last record");
    }
    at += bits.size() * sizeof(uint64_t);
  }
  return all;
}

// --- SegmentReader ------------------------------------------------------------------------------

SegmentReader::SegmentReader(ListedFile file, const TableOptions& options,
                             const SegmentInfo& expected, const std::vector<uint64_t>* bits)
    : file_(std::move(file)),
      expected_(expected),
      bits_(bits),
      format_(options),
      dim_(static_cast<size_t>(options.dim)),
      slot_floats_(dim_ * static_cast<size_t>(SlotCount(options.optimizer.kind))),
      layout_(static_cast<uint32_t>((format_.slots_at() + slot_floats_) * sizeof(float)),
              kSpilledMetadataBytes),
      row_(format_.slots_at() + slot_floats_) {}

Result<std::unique_ptr<SegmentReader>> SegmentReader::Open(Env* env, const std::string& path,
                                                           const TableOptions& options,
                                                           const SegmentInfo& expected,
                                                           const std::vector<uint64_t>* bits) {
  auto file = ListedFile::Open(env, path, expected.bytes);
  if (!file.ok()) return file.status();
  std::unique_ptr<SegmentReader> reader(
      new SegmentReader(std::move(file).value(), options, expected, bits));
  MXREC_RETURN_IF_ERROR(reader->CheckFrame());
  return reader;
}

Status SegmentReader::CheckFrame() {
  const uint64_t bytes = ssd::SegmentFileBytes(layout_, expected_.records);
  if (bytes != expected_.bytes) {
    return Damaged(file_.path(), std::min(bytes, expected_.bytes),
                   Differs("the file's size", expected_.bytes, bytes,
                           "records of this table as many as the manifest says need"));
  }
  char block[kBlockBytes];
  ssd::SegmentHeader header;
  MXREC_RETURN_IF_ERROR(file_.ReadExactly(0, sizeof(block), block));
  if (const Status status = ssd::CheckHeader(block, &header); !status.ok()) {
    return Damaged(file_.path(), 0, status.message());
  }
  if (header.run != expected_.run || header.segment != expected_.id) {
    return Damaged(file_.path(), offsetof(ssd::SegmentHeader, run),
                   "this is another segment than the one in the manifest");
  }
  if (header.row_bytes != layout_.row_bytes() ||
      header.metadata_bytes != layout_.metadata_bytes() ||
      header.page_bytes != layout_.page_bytes() ||
      header.records_per_page != layout_.records_per_page()) {
    return Damaged(file_.path(), offsetof(ssd::SegmentHeader, row_bytes),
                   "its records are not rows of the table in the manifest");
  }
  ssd::SegmentTrailer trailer;
  const uint64_t last = expected_.bytes - kBlockBytes;
  MXREC_RETURN_IF_ERROR(file_.ReadExactly(last, sizeof(block), block));
  if (const Status status = ssd::CheckTrailer(block, &trailer); !status.ok()) {
    return Damaged(file_.path(), last, status.message());
  }
  if (trailer.run != expected_.run || trailer.segment != expected_.id ||
      trailer.records != expected_.records ||
      trailer.keys_offset != ssd::KeysOffset(layout_, expected_.records)) {
    return Damaged(file_.path(), last, "its trailer is not that of the segment in the manifest");
  }
  return {};
}

// Records lie at any byte, rows in memory do not.
void SegmentReader::Emit(int64_t key, const char* record, RowBlock* rows) {
  ssd::RecordHead head;
  std::memcpy(&head, record, sizeof(head));
  rows->keys.push_back(key);
  rows->frequency.push_back(head.frequency);
  rows->last_time.push_back(head.last_time);
  std::memcpy(row_.data(), record + sizeof(head) + layout_.metadata_bytes(), layout_.row_bytes());
  const size_t at = rows->values.size();
  rows->values.resize(at + dim_ + slot_floats_);
  format_.Load(row_.data(), rows->values.data() + at);
  std::copy_n(row_.data() + format_.slots_at(), slot_floats_, rows->values.data() + at + dim_);
}

Status SegmentReader::Next(RowBlock* rows) {
  rows->clear();
  const uint64_t per_page = layout_.records_per_page();
  const uint64_t pages_at_once = std::max<uint64_t>(1, kReadBytes / layout_.page_bytes());
  while (rows->size() == 0 && slot_ < expected_.records) {
    const uint64_t begin = slot_;  // of a page
    const uint64_t end = std::min(expected_.records, begin + pages_at_once * per_page);
    const uint64_t pages = (end - begin + per_page - 1) / per_page;
    block_offset_ = ssd::kPagesOffset + begin / per_page * layout_.page_bytes();
    const uint64_t keys_offset =
        ssd::KeysOffset(layout_, expected_.records) + begin * sizeof(int64_t);
    keys_.resize(end - begin);
    MXREC_RETURN_IF_ERROR(
        file_.ReadExactly(keys_offset, keys_.size() * sizeof(int64_t), keys_.data()));
    if (stream_ == nullptr) stream_ = std::make_unique<FileStream>(&file_, block_offset_);
    const auto page = stream_->View(block_offset_, pages * layout_.page_bytes());
    if (!page.ok()) return page.status();
    for (uint64_t slot = begin; slot < end; ++slot) {
      if (!Picked(slot)) continue;
      const uint64_t offset = layout_.OffsetOf(static_cast<uint32_t>(slot - begin));
      const char* const record = page.value() + offset;
      const int64_t key = keys_[slot - begin];
      uint64_t checksum;
      static_assert(offsetof(ssd::RecordHead, checksum) == 0);
      std::memcpy(&checksum, record, sizeof(checksum));
      if (checksum !=
          ssd::RecordChecksum(layout_, {expected_.run, expected_.id, slot, key}, record)) {
        return Damaged(file_.path(), block_offset_ + offset,
                       "the checksum of record " + std::to_string(slot) +
                           " does not match (its key is at byte " +
                           std::to_string(keys_offset + (slot - begin) * sizeof(int64_t)) + ")");
      }
      Emit(key, record, rows);
    }
    slot_ = end;
  }
  return {};
}

}  // namespace mxrec::checkpoint
