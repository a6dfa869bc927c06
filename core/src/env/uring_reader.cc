#include <liburing.h>

#include <algorithm>
#include <cerrno>

#include "env/posix_direct.h"
#include "env/posix_error.h"

namespace mxrec {
namespace {

class UringReader : public BatchReader {
 public:
  static Result<std::unique_ptr<BatchReader>> Create(uint32_t depth) {
    auto reader = std::unique_ptr<UringReader>(new UringReader(depth));
    const int result = io_uring_queue_init(depth, &reader->ring_, 0);
    if (result < 0) return FromErrno("set up", "io_uring", -result);
    reader->ready_ = true;
    io_uring_probe* const probe = io_uring_get_probe_ring(&reader->ring_);
    const bool reads = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    if (!reads) return IoError("cannot set up io_uring: this kernel's has no reads");
    return std::unique_ptr<BatchReader>(std::move(reader));
  }
  ~UringReader() override {
    if (ready_) io_uring_queue_exit(&ring_);
  }

  void Read(std::span<BlockRead> reads, const Call& start, const Call& done) override {
    size_t next = 0;
    uint32_t flying = 0;
    while (!broken_ && (next < reads.size() || flying > 0)) {
      for (; flying < depth_ && next < reads.size(); ++next, ++flying) {
        BlockRead& read = reads[next];
        read.status = {};
        start(read);
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);  // as many as reads may be under way
        io_uring_prep_read(sqe, FileOf(read)->fd(), read.out, static_cast<unsigned>(read.bytes),
                           read.offset);
        io_uring_sqe_set_data(sqe, &read);
      }
      // Waiting for a few at a time saves system calls and leaves most of the queue full.
      const int result = io_uring_submit_and_wait(&ring_, std::min(flying, depth_ / 8 + 1));
      if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) broken_ = true;
      flying -= Reap(done);
    }
    const size_t started = next;
    if (flying > 0) next -= Abandon(flying, done);
    for (; next < reads.size(); ++next) {
      reads[next].status = {};
      if (next >= started) start(reads[next]);
      FileOf(reads[next])->Finish(&reads[next], 0);
      done(reads[next]);
    }
  }
  ReadMethod method() const override { return ReadMethod::kUring; }

 private:
  explicit UringReader(uint32_t depth) : depth_(depth) {}

  static const PosixDirectFile* FileOf(const BlockRead& read) {
    return static_cast<const PosixDirectFile*>(read.file);
  }

  // Takes what has completed; how many.
  uint32_t Reap(const Call& done) {
    uint32_t count = 0;
    unsigned head = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      auto* const read = static_cast<BlockRead*>(io_uring_cqe_get_data(cqe));
      if (cqe->res == -EAGAIN || cqe->res == -EINTR) {
        FileOf(*read)->Finish(read, 0);
      } else if (cqe->res < 0) {
        read->status = FromErrno("read", FileOf(*read)->path(), -cqe->res);
      } else {
        FileOf(*read)->Finish(read, static_cast<size_t>(cqe->res));  // the rest of a short one
      }
      done(*read);
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }

  // The ring takes nothing more. Waits for what it took, because that still writes to memory; how
  // many it did not take, which are the last ones.
  uint32_t Abandon(uint32_t flying, const Call& done) {
    const uint32_t refused = io_uring_sq_ready(&ring_);
    for (uint32_t left = flying - refused; left > 0;) {
      io_uring_cqe* cqe = nullptr;
      if (io_uring_peek_cqe(&ring_, &cqe) == 0) left -= Reap(done);
    }
    return refused;
  }

  const uint32_t depth_;
  io_uring ring_;
  bool ready_ = false;
  bool broken_ = false;
};

}  // namespace

Result<std::unique_ptr<BatchReader>> NewUringReader(uint32_t depth) {
  return UringReader::Create(depth);
}

}  // namespace mxrec
