// Compactor: the thread that frees space. It deletes segments without a live record and, while the
// log takes more space than it may, moves the live records of the segment with the fewest of them.
// The keys come from the segment's footer; the owner's index is asked about those records alone.
// Now and then it looks whether every file is still there; the records of one that others have
// deleted are read through its descriptor, and moved.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ssd/append_stream.h"
#include "ssd/record_layout.h"
#include "ssd/record_reader.h"
#include "ssd/run_directories.h"
#include "ssd/segment_set.h"
#include "util/mutex.h"

namespace mxrec::ssd {

struct Move {
  int64_t key = 0;
  uint32_t from = 0;  // locations
  uint32_t to = 0;
};

// Whoever has the index.
class LogOwner {
 public:
  virtual ~LogOwner() = default;
  // For each move: where the index says `from` of this key, it is to say `to` from now on, and
  // taken[i] = true. Otherwise taken[i] = false: the record is not live any more. Called by the
  // compaction thread, which holds no lock of the log; the owner takes its own.
  virtual void Moved(std::span<const Move> moves, bool* taken) = 0;
};

class Compactor {
 public:
  struct Options {
    std::string table;
    double start_ratio = 0;  // of space to live payload
    double wait_ratio = 0;
    uint32_t piece_records = 0;  // read and moved at a time; whole pages
    uint32_t patrol_millis = 0;  // between looks at whether all files are there
  };
  Compactor(Options options, const RecordLayout& layout, LogOwner* owner,
            RunDirectories* directories, SegmentSet* segments, RecordReader* reader,
            AppendStream* stream);
  ~Compactor();

  // There may be something to do.
  void Wake();
  void WakeIfNeeded();  // when the space says so
  // Waits while the log takes more than `wait_ratio` and compaction is able to change that.
  void WaitForSpace();
  // Compacts although space does not ask for it, until a file has been deleted; false when there is
  // none to win.
  bool Reclaim();
  // The same until there is nothing more to win.
  void CompactAll();
  // The first error since the last call.
  Status TakeError();

  struct Counts {
    uint64_t segments = 0;
    uint64_t moved = 0;
    uint64_t refused = 0;  // moves that the owner did not take
    uint64_t read_bytes = 0;
    uint64_t deleted = 0;
    uint64_t wait_micros = 0;  // in WaitForSpace, of all callers
    uint64_t missing = 0;      // segments whose files others have deleted
  };
  Counts counts() const;

 private:
  void Run();
  bool Step(bool* failed);
  std::shared_ptr<Segment> NextVictim() const;
  void PatrolIfDue();
  bool DeleteUnread();
  bool Compact(const std::shared_ptr<Segment>& victim);
  Status MovePiece(Segment* victim, uint32_t begin, uint32_t end, bool* damaged);
  Status Explain(const Segment& segment, const Status& status) const;
  void Report(const Status& status);
  void Stepped();
  uint64_t Ask();

  const Options options_;
  const RecordLayout layout_;
  LogOwner* const owner_;
  RunDirectories* const directories_;
  SegmentSet* const segments_;
  RecordReader* const reader_;
  AppendStream* const stream_;

  std::atomic<int> pressing_{0};  // callers that want more than space asks for
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> compacted_{0};
  std::atomic<uint64_t> moved_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<uint64_t> deleted_{0};
  std::atomic<uint64_t> wait_micros_{0};
  std::atomic<uint64_t> missing_{0};
  std::atomic<bool> patrol_{false};  // now

  // Of the thread alone.
  std::chrono::steady_clock::time_point patrolled_ = std::chrono::steady_clock::now();
  AlignedBytes pages_;
  AlignedBytes keys_;
  std::vector<std::shared_ptr<Segment>> undeleted_;
  std::vector<RecordIn> records_;
  std::vector<uint32_t> slots_;
  std::vector<uint32_t> locations_;
  std::vector<Move> moves_;
  std::unique_ptr<bool[]> taken_;

  Mutex mu_;
  Condition work_;
  Condition stepped_;
  uint64_t asked_ MXREC_GUARDED_BY(mu_) = 1;
  // What had been asked when it last found nothing to do.
  uint64_t idle_at_ MXREC_GUARDED_BY(mu_) = 0;
  Status error_ MXREC_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace mxrec::ssd
