// AppendStream: puts records one behind the other into the open segment of a log. A log has two:
// one for its owner, one for compaction, so that records which have outlived others lie together.
//
// Thread-safe: one append at a time, so the records of a call are contiguous.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ssd/log_writer.h"
#include "ssd/record_layout.h"
#include "ssd/run_directories.h"
#include "ssd/segment_set.h"
#include "util/mutex.h"

namespace mxrec::ssd {

// A record as it is handed over.
struct RecordIn {
  int64_t key = 0;
  uint32_t frequency = 0;
  uint32_t last_time = 0;
  const void* metadata = nullptr;  // metadata_bytes
  const void* row = nullptr;       // row_bytes
};

class AppendStream {
 public:
  // `chunk_records`: a multiple of the records of a page, and of which segments hold a multiple.
  // `reserve`, if not null, has a segment to spare before this stream takes another one: compaction
  // needs room to make room.
  AppendStream(std::string table, StreamKind kind, const RecordLayout& layout,
               uint32_t chunk_records, uint64_t segment_bytes, RunDirectories* directories,
               SegmentSet* segments, LogWriter* writer, AppendStream* reserve);

  // Makes room for `records` more and, beyond that, for `spare` whole segments.
  Status Reserve(size_t records, size_t spare);
  // All or nothing: after an error no record has a location. The records are live from now on.
  // Waits for buffers, hence at most for the disk. After the error of an earlier write, which it
  // returns, that write is tried again.
  Status Append(std::span<const RecordIn> records, uint32_t* locations);
  // The open segment is submitted for sealing as it is.
  void Seal();

  uint64_t appended() const { return appended_; }

 private:
  Status ReserveLocked(size_t records, size_t spare) MXREC_REQUIRES(mu_);
  Status AppendLocked(std::span<const RecordIn> records, uint32_t* locations, size_t* done)
      MXREC_REQUIRES(mu_);
  Status NextChunk() MXREC_REQUIRES(mu_);
  void SubmitChunk() MXREC_REQUIRES(mu_);

  const std::string table_;
  const StreamKind kind_;
  const RecordLayout layout_;
  const uint32_t chunk_records_;
  const uint64_t segment_bytes_;
  RunDirectories* const directories_;
  SegmentSet* const segments_;
  LogWriter* const writer_;
  AppendStream* const reserve_;
  std::atomic<uint64_t> appended_{0};

  Mutex mu_;
  std::shared_ptr<Segment> open_ MXREC_GUARDED_BY(mu_);
  uint32_t next_slot_ MXREC_GUARDED_BY(mu_) = 0;  // of open_
  std::shared_ptr<Chunk> chunk_ MXREC_GUARDED_BY(mu_);
  // With their files, without records.
  std::deque<std::shared_ptr<Segment>> spares_ MXREC_GUARDED_BY(mu_);
};

}  // namespace mxrec::ssd
