// SegmentSet: the segments of a log by number, what is live in them, and who may still read them.
//
// Thread-safe. Its mutex is a leaf: nothing is locked, written or called back under it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "ssd/record_layout.h"
#include "ssd/segment.h"
#include "util/mutex.h"

namespace mxrec::ssd {

// Locations are below it: an owner has one more bit of 32 for its own use.
inline constexpr uint32_t kLocationLimit = uint32_t{1} << 31;

class SegmentSet {
 public:
  // `record_bytes`: what a live record takes on the disk, footer included.
  SegmentSet(uint32_t segment_records, uint64_t segment_bytes, double record_bytes,
             uint32_t payload_bytes);

  uint32_t segment_records() const { return segment_records_; }
  uint32_t LocationOf(const Segment& segment, uint32_t slot) const {
    return segment.number * segment_records_ + slot;
  }
  uint32_t SlotOf(uint32_t location) const { return location % segment_records_; }
  uint32_t NumberOf(uint32_t location) const { return location / segment_records_; }

  // A segment with a number of its own and no file; null when all locations are taken. Give() puts
  // the number of one that was not added back.
  std::shared_ptr<Segment> Make();
  void Give(const Segment& segment);
  void Add(std::shared_ptr<Segment> segment);

  // --- Records

  void MarkLive(Segment* segment, uint32_t slot) {
    segment->MarkLive(slot);
    ++live_;
  }
  // Of a location, a no-op when it is not live. True when a segment has no live record any more.
  bool MarkDead(std::span<const uint32_t> locations);
  bool MarkDead(Segment* segment, uint32_t slot);

  // Where a record is to be read: in `chunk`, or in the file when it is null. A null segment: the
  // location names none.
  struct Found {
    std::shared_ptr<Segment> segment;
    std::shared_ptr<Chunk> chunk;
  };
  // The places of ascending locations, from `begin` on, that have the same answer; how many.
  size_t Find(std::span<const uint32_t> locations, Found* found) const;

  // --- Writing

  void AddChunk(Segment* segment, std::shared_ptr<Chunk> chunk);
  void Appended(Segment* segment, uint32_t records);
  void ChunkWritten(Segment* segment, uint32_t records);
  void Sealed(Segment* segment, uint64_t bytes);
  bool IsSealed(const Segment& segment) const;

  // --- Guards. What is retired while one is there is kept until it has gone. What is sealed
  // meanwhile is not compacted before: its locations may not be in the index yet.

  uint64_t Enter();
  void Leave(uint64_t epoch);

  // --- Compaction

  // What a segment is to be emptied for: its bytes, or its locations and its descriptor, which one
  // that was sealed early takes like any other.
  enum class Share : uint8_t { kOfBytes, kOfLocations };
  // The sealed segment with the smallest share of live records, of those whose locations are all
  // in the index; null when it is above `most_live`.
  std::shared_ptr<Segment> Victim(double most_live, Share share = Share::kOfBytes) const;
  // One whose file is missing; null: there is none.
  std::shared_ptr<Segment> MissingVictim() const;
  void Damaged(Segment* segment);
  // True the first time.
  bool Missing(Segment* segment);
  std::vector<std::shared_ptr<Segment>> NotRetired() const;
  // So many bytes of a victim need not be compacted any more; given back when it retires.
  void Progress(uint64_t bytes) { progress_ += bytes; }
  void EndProgress() { progress_ = 0; }
  void Retire(Segment* segment);
  // Retired ones that nobody can be reading; they are out of the set, their numbers free.
  std::vector<std::shared_ptr<Segment>> TakeUnread();
  bool HasRetired() const;
  // Bytes of the segments, less what compaction has finished with, are more than `ratio` of the
  // bytes that the owner handed over for the live records. A log of a few segments gets `spare` of
  // them in addition to its live records. The open segments count with what they hold and as much
  // as they lack on average, so that what is asked of compaction grows with each record, not by a
  // segment at a time.
  bool Exceeds(double ratio, int spare) const;
  // More than twice as many segments as the live records need, and some: many were sealed early.
  bool Crowded() const;

  // --- Checkpoints: a pinned segment keeps its file.

  std::vector<std::shared_ptr<Segment>> PinSealed();
  void Unpin(const std::vector<std::shared_ptr<Segment>>& segments);

  struct Totals {
    uint32_t segments = 0;  // not retired
    uint32_t sealed = 0;
    int64_t live_records = 0;
    uint64_t bytes = 0;          // of those not retired
    uint64_t retired_bytes = 0;  // still kept by guards and pins
  };
  Totals totals() const;

 private:
  // A guard may hold locations of it that the index has not got yet.
  bool MayBeUnpublished(const Segment& segment) const MXREC_REQUIRES(mu_) {
    return !guards_.empty() && segment.sealed_at > guards_.begin()->first;
  }

  uint64_t UnfilledBytes(const Segment& segment) const;

  const uint32_t segment_records_;
  const uint64_t segment_bytes_;
  const double record_bytes_;
  const uint32_t payload_bytes_;

  std::atomic<int64_t> live_{0};
  std::atomic<uint64_t> bytes_{0};     // of segments that are not retired
  std::atomic<uint64_t> unfilled_{0};  // bytes of the open ones that no record has taken yet
  std::atomic<uint64_t> progress_{0};  // within the segment that is being compacted

  mutable Mutex mu_;  // guards a part of each Segment as well, which cannot name it
  std::vector<std::shared_ptr<Segment>> segments_ MXREC_GUARDED_BY(mu_);
  std::vector<uint32_t> free_numbers_ MXREC_GUARDED_BY(mu_);
  uint64_t next_id_ MXREC_GUARDED_BY(mu_) = 0;
  std::vector<std::shared_ptr<Segment>> retired_ MXREC_GUARDED_BY(mu_);
  uint64_t epoch_ MXREC_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, uint32_t> guards_ MXREC_GUARDED_BY(mu_);
};

}  // namespace mxrec::ssd
