// RecordReader: reads batches of records: from memory those that are still on their way to the
// disk, the others with one read for all that lie in neighbouring blocks.
//
// Thread-safe: each call has a BatchReader to itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "env/env.h"
#include "ssd/record_layout.h"
#include "ssd/run_directories.h"
#include "ssd/segment_set.h"
#include "util/mutex.h"

namespace mxrec::ssd {

// A record to read.
struct RecordOut {
  int64_t key = 0;
  uint32_t location = 0;
  void* row = nullptr;       // row_bytes
  void* metadata = nullptr;  // metadata_bytes; null: not wanted
  uint32_t frequency = 0;    // these three are set by the read
  uint32_t last_time = 0;
  bool ok = false;  // false: row and metadata are undefined
};

class RecordReader {
 public:
  struct Options {
    std::string table;
    uint32_t depth = 64;        // reads of one call under way at a time; fewer of large records
    bool prefer_uring = true;   // false: pread, as where the kernel has no io_uring
    uint32_t max_readers = 64;  // calls that read at the same time; more wait
  };
  // Finds out whether the kernel allows io_uring.
  static Result<std::unique_ptr<RecordReader>> Create(Env* env, Options options,
                                                      const RecordLayout& layout, uint64_t run,
                                                      SegmentSet* segments);

  // The first error of all; the others of the batch are read.
  Status Read(std::span<RecordOut> records);
  // Blocks of one file, for compaction.
  Status ReadBlocks(const Segment& segment, uint64_t offset, size_t bytes, void* out);

  ReadMethod method() const { return method_; }
  const std::string& why_pread() const { return why_pread_; }  // empty with io_uring

  struct Counts {
    uint64_t records = 0;   // read from the disk
    uint64_t buffered = 0;  // read from memory
    uint64_t requests = 0;
    uint64_t blocks = 0;
  };
  Counts counts() const;

 private:
  RecordReader(Env* env, Options options, const RecordLayout& layout, uint64_t run,
               SegmentSet* segments);

  // A batch reader and its memory, lent to one call at a time. A buffer is as large as the largest
  // read, of which system memory is used as far as reads ever filled it.
  struct Lane {
    std::unique_ptr<BatchReader> reader;
    std::unique_ptr<AlignedBytes> memory;
    Mutex mu;
    std::vector<char*> free_buffers MXREC_GUARDED_BY(mu);  // the one used last is taken first
    std::vector<uint64_t> order;                           // location << 32 | index of the request
    std::vector<uint32_t> locations;                       // ascending
    std::vector<BlockRead> reads;
    // Of a read: its segment and the requests that it serves, as a range of `order`.
    struct Plan {
      std::shared_ptr<Segment> segment;
      uint32_t begin = 0;
      uint32_t end = 0;
    };
    std::vector<Plan> plans;
  };
  class LaneLease;

  Result<std::unique_ptr<Lane>> NewLane(ReadMethod method) const;
  std::unique_ptr<Lane> TakeLane();
  void ReturnLane(std::unique_ptr<Lane> lane);

  void CopyFrom(const void* record, RecordOut* out) const;
  void PlanReads(Lane* lane, std::span<RecordOut> records, const std::shared_ptr<Segment>& segment,
                 size_t begin, size_t end);
  Status RunReads(Lane* lane, std::span<RecordOut> records);
  void Check(const Lane& lane, BlockRead* read, std::span<RecordOut> records) const;
  Status Explain(const Segment& segment, const Status& status) const;

  Env* const env_;
  const Options options_;
  const RecordLayout layout_;
  const uint64_t run_;
  SegmentSet* const segments_;
  const size_t buffer_bytes_;
  const uint32_t depth_;  // of each lane, and its number of buffers
  ReadMethod method_ = ReadMethod::kPread;
  std::string why_pread_;

  std::atomic<uint64_t> records_{0};
  std::atomic<uint64_t> buffered_{0};
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> blocks_{0};

  Mutex mu_;
  Condition returned_;
  std::vector<std::unique_ptr<Lane>> idle_ MXREC_GUARDED_BY(mu_);
  uint32_t lanes_ MXREC_GUARDED_BY(mu_) = 0;
};

}  // namespace mxrec::ssd
