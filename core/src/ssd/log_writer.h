// LogWriter: the thread that writes chunks to their segments and seals these, and the buffers that
// wait for it.
//
// Each stream has a queue, and the two take turns: what compaction moves does not wait behind all
// that the owner has stored, nor the other way round. A write that fails stays first in its queue,
// its records readable in memory. The writer stops until Retry; meanwhile nobody gets a chunk.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ssd/record_layout.h"
#include "ssd/run_directories.h"
#include "ssd/segment_set.h"
#include "util/mutex.h"

namespace mxrec::ssd {

enum class StreamKind : uint8_t { kOwner, kCompaction };

class LogWriter {
 public:
  struct Options {
    std::string table;
    size_t chunk_bytes = 0;
    uint32_t owner_chunks = 0;  // at most in memory
    uint32_t compaction_chunks = 0;
  };
  LogWriter(Options options, const RecordLayout& layout, RunDirectories* directories,
            SegmentSet* segments, std::function<void()> on_sealed);
  ~LogWriter();
  // What is queued is dropped, and whoever waits gets an error. Idempotent.
  void Stop();

  // Waits until there is one; the error of a write that failed, if one has.
  Result<std::shared_ptr<Chunk>> TakeChunk(StreamKind kind);
  // A chunk is full, or the last one of its segment; null: there is none to write, only to seal.
  void Submit(std::shared_ptr<Segment> segment, std::shared_ptr<Chunk> chunk, StreamKind kind,
              bool seal);
  // The write that failed is tried again.
  void Retry();
  Status error() const;
  // Returns when everything submitted before is on the disk, or with the error of a write.
  Status WaitWritten();

  uint64_t written_bytes() const { return written_bytes_; }

 private:
  struct Item {
    std::shared_ptr<Segment> segment;
    std::shared_ptr<Chunk> chunk;
    bool seal;
    bool chunk_done = false;
  };

  struct Queue {
    std::deque<Item> items;
    uint32_t taken = 0;  // chunks
    uint64_t submitted = 0;
    uint64_t finished = 0;
  };

  void Run();
  Queue& QueueOf(StreamKind kind) MXREC_REQUIRES(mu_) { return queues_[static_cast<int>(kind)]; }
  // Null: nothing is queued.
  Queue* NextQueue() MXREC_REQUIRES(mu_);
  Status Write(Item* item);
  Status WriteChunk(const Item& item);
  Status WriteFooter(const Segment& segment);
  Status WriteBlocks(const Segment& segment, uint64_t offset, const void* data, size_t bytes);

  const Options options_;
  const RecordLayout layout_;
  RunDirectories* const directories_;
  SegmentSet* const segments_;
  const std::function<void()> on_sealed_;
  std::atomic<uint64_t> written_bytes_{0};
  const AlignedBytes header_{kBlockBytes};  // these two are the writing thread's
  const AlignedBytes footer_;

  // Chunks that nobody uses; outlives the writer in the deleters of those that readers hold.
  struct Pool {
    Mutex mu;
    std::vector<std::unique_ptr<Chunk>> chunks MXREC_GUARDED_BY(mu);
  };
  const std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();

  mutable Mutex mu_;
  Condition work_;
  Condition progress_;
  Queue queues_[2] MXREC_GUARDED_BY(mu_);  // by StreamKind
  int turn_ MXREC_GUARDED_BY(mu_) = 0;     // whose item is next, if both have one
  Status error_ MXREC_GUARDED_BY(mu_);
  bool stop_ MXREC_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace mxrec::ssd
