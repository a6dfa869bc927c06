// SsdLog: records of one table on disks, found by location. docs/decisions/0007-ssd-log.md
// describes what is stored and why; here is what an owner, the one with the index from key to
// location, has to know.
//
// Invariants:
//   1. A location that Append or LogOwner::Moved gave names that record until Free, or until Moved
//      gave another. It is below 2^31.
//   2. A read gives the record that was stored, or an error; never another one.
//   3. What is freed or moved can still be read by whoever took a Guard before.
//   4. An error changes no record. Records in memory and on other disks stay readable.
//
// Thread-safe, except that nothing may run beside Close. Append, Read, Free and Seal may be called
// with locks that LogOwner::Moved takes; Pace, Compact and Close may not, because they wait for
// compaction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "env/env.h"
#include "ssd/append_stream.h"
#include "ssd/compactor.h"
#include "ssd/record_reader.h"

namespace mxrec::ssd {

struct LogOptions {
  std::string table;               // named in errors and in directories
  std::vector<SsdPath> paths;      // filled in this order
  uint32_t row_bytes = 0;          // [1, 2^20]
  uint32_t metadata_bytes = 8;     // [0, 16]
  uint64_t max_records = 0;        // [1, 1.3e9] live at a time: what the segments' size is made for
  uint64_t segment_bytes = 0;      // 0: 1/512 of a full log, at least 1 MiB
  uint64_t chunk_bytes = 1 << 20;  // of a write
  uint64_t buffer_bytes = 16 << 20;  // of records that wait for the disk
  uint32_t read_depth = 256;         // reads of one call under way at a time
  bool prefer_uring = true;
  uint32_t patrol_millis = 5000;  // [1, 2^31): between looks at whether all files are there
};

struct LogStats {
  SegmentSet::Totals segments;
  uint32_t segment_records = 0;
  uint64_t segment_bytes = 0;
  uint64_t payload_bytes = 0;     // that a record was handed over with: key, metadata, row
  uint64_t appended_records = 0;  // by the owner
  uint64_t written_bytes = 0;     // all of them: compaction, headers and footers included
  RecordReader::Counts reads;
  Compactor::Counts compaction;
  ReadMethod read_method = ReadMethod::kPread;
  std::string why_pread;     // empty with io_uring
  std::vector<bool> direct;  // for each path: direct I/O
  std::vector<uint64_t> path_bytes;
  std::vector<std::string> removed_leftovers;
  std::vector<std::string> kept_leftovers;  // that could not be removed, and why
};

class SsdLog {
 public:
  // Removes what ended runs have left below the paths. `owner` outlives the log.
  static Result<std::unique_ptr<SsdLog>> Open(Env* env, LogOptions options, LogOwner* owner);
  ~SsdLog();  // closes without a report

  // While it is there, every location that the index held at any time since can be read, and no
  // record appended since is moved. Hold it from before a location is taken from the index until
  // its record is read, and from before an append until the index has the locations. Short-lived:
  // meanwhile no space is freed.
  class Guard {
   public:
    Guard(Guard&& other) noexcept
        : log_(std::exchange(other.log_, nullptr)), epoch_(other.epoch_) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard();

   private:
    friend class SsdLog;
    Guard(SsdLog* log, uint64_t epoch) : log_(log), epoch_(epoch) {}
    SsdLog* log_;
    uint64_t epoch_;
  };
  Guard Enter();

  // Waits, without locks that LogOwner::Moved takes and without a guard, until there is room for so
  // many more records: while the log takes more than 1.485 times its live data and compaction can
  // help, and, when all paths are full, for what compaction can free. Call it before batches of
  // appends; without it the log grows beyond its bound.
  Status Pace(size_t records);
  // Stores records one behind the other. All or nothing. Waits for the disk only when all buffers
  // wait for it. After the error of an earlier write, which it returns, that write is tried again.
  Status Append(const Guard& guard, std::span<const RecordIn> records, uint32_t* locations);
  // The first error, if any; records[i].ok says which were read nevertheless.
  Status Read(const Guard& guard, std::span<RecordOut> records);
  // The index does not hold these locations any more. Call it before the lock is released under
  // which the index forgot them, or with a guard that was there before.
  void Free(std::span<const uint32_t> locations);

  // Everything appended before is in sealed segments on the disk.
  Status Seal();
  // Moves whatever is worth moving, whether space asks for it or not.
  void Compact();
  // What failed in the background and nobody was told of; cleared by the call. Damaged records stay
  // where they are, and reads of them fail. A segment whose file others have deleted is kNotFound,
  // once: its records are read and moved, but a checkpoint cannot link it.
  Status TakeBackgroundError();

  // Sealed segments that keep their files, for a checkpoint to link or copy.
  class Pins {
   public:
    struct Pinned {
      uint64_t run = 0;
      uint64_t segment = 0;
      std::string file;
      uint64_t bytes = 0;
      uint32_t first_location = 0;
      uint32_t records = 0;
      std::vector<uint64_t> live;  // a bit for each record, at the time of Pin
      bool unreadable = false;     // a read of it has failed
    };
    Pins(Pins&& other) noexcept = default;
    Pins& operator=(Pins&&) = delete;
    ~Pins();
    const std::vector<Pinned>& segments() const { return pinned_; }
    // The file's data is on the disk, all of it, and the file under its name.
    Status Sync(size_t i) const;

   private:
    friend class SsdLog;
    Pins() = default;
    SsdLog* log_ = nullptr;
    std::vector<std::shared_ptr<Segment>> segments_;
    std::vector<Pinned> pinned_;
  };
  Pins Pin();

  LogStats stats() const;
  // Stops the threads and deletes the files. Idempotent. Guards and pins may outlive it, though not
  // the log itself; later calls are kFailedPrecondition.
  Status Close();

  const RecordLayout& layout() const { return layout_; }

 private:
  SsdLog(LogOptions options, const RecordLayout& layout);
  Status CheckOpen() const;

  const LogOptions options_;
  const RecordLayout layout_;
  uint32_t segment_records_ = 0;
  uint64_t segment_bytes_ = 0;
  std::unique_ptr<RunDirectories> directories_;
  std::unique_ptr<SegmentSet> segments_;
  std::unique_ptr<RecordReader> reader_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<AppendStream> compaction_stream_;
  std::unique_ptr<AppendStream> owner_stream_;
  std::unique_ptr<Compactor> compactor_;
};

}  // namespace mxrec::ssd
