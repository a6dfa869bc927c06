// Segment and Chunk: a file of records, and the part of it that is still in memory.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "env/aligned_bytes.h"
#include "env/direct_file.h"

namespace mxrec::ssd {

// Whole pages of one segment on their way to the disk.
//
// The stream that fills it and, later, the writer change it; readers copy records whose locations
// they know, hence filled ones, but for their checksums, which the writer puts in.
struct Chunk {
  explicit Chunk(size_t bytes) : data(bytes) {}

  AlignedBytes data;
  uint32_t first_slot = 0;
  uint32_t records = 0;  // of the stream until the writer has it
};

enum class SegmentState : uint8_t {
  kOpen,     // being filled, or on its way to the disk
  kSealed,   // all of it is on the disk, and nothing of it changes any more
  kRetired,  // no live record; its file goes when nobody can be reading it
};

struct Segment {
  Segment(uint32_t number, uint64_t id, uint32_t capacity)
      : number(number),
        id(id),
        capacity(capacity),
        live_bits(std::make_unique<std::atomic<uint64_t>[]>((capacity + 63) / 64)),
        keys(std::make_unique<int64_t[]>(capacity)) {}

  const uint32_t number;  // location = number * capacity + slot; taken again after a retirement
  const uint64_t id;
  const uint32_t capacity;
  uint32_t path = 0;  // these three are set before anybody else sees the segment
  std::string name;
  std::shared_ptr<DirectFile> file;

  // A bit for each live record, and how many there are.
  const std::unique_ptr<std::atomic<uint64_t>[]> live_bits;
  std::atomic<uint32_t> live{0};

  bool IsLive(uint32_t slot) const { return (live_bits[slot / 64] >> (slot % 64) & 1) != 0; }
  void MarkLive(uint32_t slot) {
    live_bits[slot / 64] |= uint64_t{1} << (slot % 64);
    ++live;
  }
  // False when it was not live.
  bool MarkDead(uint32_t slot) {
    const uint64_t bit = uint64_t{1} << (slot % 64);
    if ((live_bits[slot / 64].fetch_and(~bit) & bit) == 0) return false;
    --live;
    return true;
  }

  // A read of it has failed, now or before: it is read once more, not passed on unread.
  std::atomic<bool> unreadable{false};

  // Of records that are not yet on the disk, for their checksums and the footer. Written by the
  // stream, read by the writer for chunks that it was given; null once sealed.
  std::unique_ptr<int64_t[]> keys;

  // Guarded by SegmentSet::mu.
  SegmentState state = SegmentState::kOpen;
  uint64_t bytes = 0;                         // of the file
  uint32_t records = 0;                       // with a place
  uint32_t written = 0;                       // of them on the disk
  std::deque<std::shared_ptr<Chunk>> chunks;  // from `written` on
  uint32_t pins = 0;
  uint64_t sealed_at = 0;  // epochs
  uint64_t retired_at = 0;
  bool damaged = false;  // compaction met a record that it could not read
  bool missing = false;  // somebody has deleted its file, which is open still
};

}  // namespace mxrec::ssd
