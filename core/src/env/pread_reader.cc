// Batches of reads without io_uring: a pread each, spread over the engine's worker threads.
#include <algorithm>

#include "env/posix_direct.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

class PreadReader : public BatchReader {
 public:
  explicit PreadReader(uint32_t depth) : depth_(depth) {}

  void Read(std::span<BlockRead> reads, const Call& start, const Call& done) override {
    const size_t grain = std::max<size_t>(1, (reads.size() + depth_ - 1) / depth_);
    WorkerPool::Get().RunRanges(reads.size(), grain, [&](size_t begin, size_t end) {
      for (BlockRead& read : reads.subspan(begin, end - begin)) {
        read.status = {};
        start(read);
        static_cast<const PosixDirectFile*>(read.file)->Finish(&read, 0);
        done(read);
      }
    });
  }
  ReadMethod method() const override { return ReadMethod::kPread; }

 private:
  const uint32_t depth_;
};

}  // namespace

Result<std::unique_ptr<BatchReader>> NewPreadReader(uint32_t depth) {
  return std::unique_ptr<BatchReader>(std::make_unique<PreadReader>(depth));
}

}  // namespace mxrec
