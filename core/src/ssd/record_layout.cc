#include "ssd/record_layout.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL  // the library is compiled in: nothing to install where the engine runs
#include <xxhash.h>

namespace mxrec::ssd {
namespace {

constexpr uint32_t kBlock = kBlockBytes;
constexpr uint32_t kMaxPageBlocks = 64;  // for records that fit in fewer

}  // namespace

RecordLayout::RecordLayout(uint32_t row_bytes, uint32_t metadata_bytes)
    : row_bytes_(row_bytes),
      metadata_bytes_(metadata_bytes),
      record_bytes_(static_cast<uint32_t>(sizeof(RecordHead)) + metadata_bytes + row_bytes) {
  const uint32_t least = (record_bytes_ + kBlock - 1) / kBlock;
  page_bytes_ = 0;
  records_per_page_ = 0;
  double best = 2.0;
  for (uint32_t blocks = least; blocks <= std::max(least, kMaxPageBlocks); ++blocks) {
    const uint32_t bytes = blocks * kBlock;
    const double waste = static_cast<double>(bytes % record_bytes_) / bytes;
    if (waste >= best) continue;
    best = waste;
    page_bytes_ = bytes;
    records_per_page_ = bytes / record_bytes_;
    if (waste <= 0.02) break;
  }
}

uint64_t RecordChecksum(const RecordLayout& layout, const RecordPlace& place, const void* record) {
  const uint64_t seed = XXH3_64bits(&place, sizeof(place));
  return XXH3_64bits_withSeed(static_cast<const char*>(record) + offsetof(RecordHead, frequency),
                              layout.record_bytes() - offsetof(RecordHead, frequency), seed);
}

void EncodeHeader(SegmentHeader header, const std::string& table, void* block) {
  std::copy_n(table.begin(), std::min(table.size(), header.table.size()), header.table.begin());
  header.checksum = XXH3_64bits(&header, offsetof(SegmentHeader, checksum));
  std::memset(block, 0, kBlockBytes);
  std::memcpy(block, &header, sizeof(header));
}

void EncodeTrailer(SegmentTrailer trailer, void* last_block) {
  trailer.checksum = XXH3_64bits(&trailer, offsetof(SegmentTrailer, checksum));
  std::memcpy(static_cast<char*>(last_block) + kBlockBytes - sizeof(trailer), &trailer,
              sizeof(trailer));
}

Status CheckHeader(const void* block, SegmentHeader* header) {
  std::memcpy(header, block, sizeof(*header));
  if (header->magic != SegmentHeader::kMagic) return DataLoss("this is no SSD segment");
  if (header->checksum != XXH3_64bits(header, offsetof(SegmentHeader, checksum))) {
    return DataLoss("the checksum of its header does not match");
  }
  if (header->version != 1) {
    return DataLoss("its version is " + std::to_string(header->version) + ", this program reads 1");
  }
  return {};
}

Status CheckTrailer(const void* last_block, SegmentTrailer* trailer) {
  std::memcpy(trailer, static_cast<const char*>(last_block) + kBlockBytes - sizeof(SegmentTrailer),
              sizeof(*trailer));
  if (trailer->magic != SegmentTrailer::kMagic) return DataLoss("it has no trailer");
  if (trailer->checksum != XXH3_64bits(trailer, offsetof(SegmentTrailer, checksum))) {
    return DataLoss("the checksum of its trailer does not match");
  }
  return {};
}

}  // namespace mxrec::ssd
