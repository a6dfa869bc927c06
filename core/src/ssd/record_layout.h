// Where the records of a segment lie, and what one consists of. docs/decisions/0007-ssd-log.md
// describes the bytes; the two must change together.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "env/direct_file.h"
#include "mxrec/status.h"

namespace mxrec::ssd {

static_assert(std::endian::native == std::endian::little,
              "the structs below are written as they lie in memory");

inline constexpr uint32_t kMaxMetadataBytes = 16;
inline constexpr uint32_t kMaxRowBytes = 1 << 20;

// At the start of a record; metadata and row follow.
struct RecordHead {
  uint64_t checksum = 0;  // of the rest of the record, its key and its place: RecordChecksum
  uint32_t frequency = 0;
  uint32_t last_time = 0;
};
static_assert(sizeof(RecordHead) == 16 && offsetof(RecordHead, frequency) == 8);

// Records fill pages of a few blocks, and none crosses the end of its page. The page is the
// smallest one that wastes at most 2 %, so most records lie in one block.
class RecordLayout {
 public:
  RecordLayout(uint32_t row_bytes, uint32_t metadata_bytes);

  uint32_t row_bytes() const { return row_bytes_; }
  uint32_t metadata_bytes() const { return metadata_bytes_; }
  uint32_t record_bytes() const { return record_bytes_; }
  // What an owner hands over for one record: key, frequency, time, metadata, row.
  uint32_t payload_bytes() const {
    return static_cast<uint32_t>(sizeof(int64_t) + 2 * sizeof(uint32_t)) + metadata_bytes_ +
           row_bytes_;
  }
  uint32_t page_bytes() const { return page_bytes_; }
  uint32_t records_per_page() const { return records_per_page_; }
  // Within the pages.
  uint64_t OffsetOf(uint32_t slot) const {
    return static_cast<uint64_t>(slot / records_per_page_) * page_bytes_ +
           static_cast<uint64_t>(slot % records_per_page_) * record_bytes_;
  }

 private:
  const uint32_t row_bytes_;
  const uint32_t metadata_bytes_;
  const uint32_t record_bytes_;
  uint32_t page_bytes_;
  uint32_t records_per_page_;
};

// What a record's checksum covers besides its bytes, so that one in another place does not pass.
struct RecordPlace {
  uint64_t run = 0;
  uint64_t segment = 0;  // id, never used twice in a run
  uint64_t slot = 0;
  int64_t key = 0;
};
static_assert(sizeof(RecordPlace) == 32);

// XXH3-64 of the bytes behind the checksum, seeded with the XXH3-64 of the place.
uint64_t RecordChecksum(const RecordLayout& layout, const RecordPlace& place, const void* record);

// A segment file: one block of header, pages, keys in the order of slots, trailer at the very end.
struct SegmentHeader {
  static constexpr std::array<char, 8> kMagic = {'M', 'X', 'R', 'E', 'C', 'S', 'S', 'D'};
  std::array<char, 8> magic = kMagic;
  uint32_t version = 1;
  uint32_t pid = 0;
  uint64_t run = 0;
  uint64_t segment = 0;
  uint32_t row_bytes = 0;
  uint32_t metadata_bytes = 0;
  uint32_t page_bytes = 0;
  uint32_t records_per_page = 0;
  std::array<char, 128> table = {};  // its name, cut, padded with zeros
  uint64_t checksum = 0;             // XXH3-64 of all bytes before it
};
static_assert(sizeof(SegmentHeader) == 184 && offsetof(SegmentHeader, checksum) == 176);

struct SegmentTrailer {
  static constexpr std::array<char, 8> kMagic = {'M', 'X', 'R', 'E', 'C', 'E', 'N', 'D'};
  uint64_t run = 0;
  uint64_t segment = 0;
  uint64_t keys_offset = 0;
  uint64_t records = 0;
  std::array<char, 8> magic = kMagic;
  uint64_t checksum = 0;  // XXH3-64 of all bytes before it
};
static_assert(sizeof(SegmentTrailer) == 48 && offsetof(SegmentTrailer, checksum) == 40);

inline constexpr uint64_t kPagesOffset = kBlockBytes;
inline uint64_t KeysOffset(const RecordLayout& layout, uint64_t records) {
  const uint64_t pages = (records + layout.records_per_page() - 1) / layout.records_per_page();
  return kPagesOffset + pages * layout.page_bytes();
}
// Of a file with so many records.
inline uint64_t SegmentFileBytes(const RecordLayout& layout, uint64_t records) {
  return KeysOffset(layout, records) +
         RoundToBlocks(records * sizeof(int64_t) + sizeof(SegmentTrailer));
}

// One block each; `block` has kBlockBytes for the header, the last of the file for the trailer.
void EncodeHeader(SegmentHeader header, const std::string& table, void* block);
void EncodeTrailer(SegmentTrailer trailer, void* last_block);
Status CheckHeader(const void* block, SegmentHeader* header);
Status CheckTrailer(const void* last_block, SegmentTrailer* trailer);

}  // namespace mxrec::ssd
