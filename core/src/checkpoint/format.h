// The bytes of a data part. docs/format-checkpoint.md describes them for readers in any language;
// the two must change together.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "mxrec/options.h"
#include "mxrec/status.h"

namespace mxrec::checkpoint {

static_assert(std::endian::native == std::endian::little,
              "the structs below are written as they lie in memory");

// Version 2 is version 1 with 16-bit embeddings; tables of float32 are written as version 1. A
// manifest of version 3 also has admission and eviction; the versions of its parts are 1 and 2. One
// of version 4 is that of a delta. One of version 5 has segments, and whatever else there is.
inline constexpr uint32_t kFloat32Version = 1;
inline constexpr uint32_t kHalfVersion = 2;
inline constexpr uint32_t kAdmissionVersion = 3;
inline constexpr uint32_t kDeltaVersion = 4;
inline constexpr uint32_t kSegmentsVersion = 5;
inline constexpr uint32_t kFormatVersion = 5;
inline constexpr uint64_t kMaxBlockPayload = uint64_t{16} << 20;  // bounds a reader's memory
inline constexpr uint64_t kMaxManifestBytes = uint64_t{256} << 20;
inline constexpr uint64_t kMaxParts = 100000;  // five digits
inline constexpr char kManifestFile[] = "manifest";

using Uid = std::array<unsigned char, 16>;

// At the start of a part.
struct PartHeader {
  static constexpr std::array<char, 8> kMagic = {'M', 'X', 'R', 'E', 'C', 'D', 'A', 'T'};
  std::array<char, 8> magic = kMagic;
  uint32_t version = 0;
  uint32_t part = 0;
  Uid uid = {};
  uint32_t row_floats = 0;
  uint32_t reserved = 0;
  uint64_t checksum = 0;  // of all bytes before it
};
static_assert(sizeof(PartHeader) == 48 && offsetof(PartHeader, checksum) == 40);

// Before the columns of a block: keys, frequency, last_time, values; in version 2 values are the
// slots, then the embeddings.
struct BlockHeader {
  static constexpr std::array<char, 4> kMagic = {'B', 'L', 'C', 'K'};
  uint64_t checksum = 0;  // of all bytes of the block behind it, payload included
  std::array<char, 4> magic = kMagic;
  uint32_t rows = 0;
  uint64_t payload_bytes = 0;
  uint64_t offset = 0;  // of this header in the file: a block out of place does not pass
};
static_assert(sizeof(BlockHeader) == 32 && offsetof(BlockHeader, magic) == 8);

// At the end of a part.
struct PartTrailer {
  static constexpr std::array<char, 8> kMagic = {'M', 'X', 'R', 'E', 'C', 'E', 'N', 'D'};
  std::array<char, 8> magic = kMagic;
  uint64_t blocks = 0;
  uint64_t rows = 0;
  uint64_t bytes = 0;     // of the whole file
  uint64_t checksum = 0;  // of all bytes before it in the trailer
};
static_assert(sizeof(PartTrailer) == 40 && offsetof(PartTrailer, checksum) == 32);

// What one row has: `dim` values of `type`, and float32 slots of `row_floats` - `dim` in all.
struct RowLayout {
  uint32_t row_floats = 0;
  uint32_t dim = 0;
  ValueType type = ValueType::kFloat32;

  uint32_t version() const { return type == ValueType::kFloat32 ? kFloat32Version : kHalfVersion; }
  bool operator==(const RowLayout&) const = default;
  uint64_t slot_floats() const { return row_floats - dim; }
  // Key, frequency, last_time and values.
  uint64_t bytes() const {
    const uint64_t value = type == ValueType::kFloat32 ? sizeof(float) : sizeof(uint16_t);
    return sizeof(int64_t) + 2 * sizeof(uint32_t) + dim * value + slot_floats() * sizeof(float);
  }
};

// Of counts a row is a key with its count and time, or a block of a sketch.
RowLayout CountLayout(AdmissionMode mode);

// Keys that have gone are a part without values.
inline constexpr RowLayout kGoneLayout = {};

enum class PartKind : uint8_t { kRows, kCounts, kGone };
std::string PartFile(PartKind kind, uint64_t part);  // "data-00007", "counts-00007"
std::string ToHex(const Uid& uid);
// False when `text` is not 32 lower-case hexadecimal digits.
bool FromHex(const std::string& text, Uid* uid);

// "<path>: damaged at byte <offset>: <what>".
Status Damaged(const std::string& path, uint64_t offset, const std::string& what);

}  // namespace mxrec::checkpoint
