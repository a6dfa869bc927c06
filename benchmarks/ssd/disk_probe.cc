#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "../latency.h"
#include "store.h"

namespace mxrec::bench {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int64_t kWrite = 1 << 20;

struct Freer {
  void operator()(void* data) const { std::free(data); }
};
std::unique_ptr<char, Freer> Aligned(size_t bytes) {
  return std::unique_ptr<char, Freer>(static_cast<char*>(std::aligned_alloc(kBlock, bytes)));
}

}  // namespace

void Fail(const std::string& message) {
  std::fprintf(stderr, "benchmark: %s\n", message.c_str());
  std::exit(1);
}

DiskProbe::DiskProbe(const std::string& path, int64_t bytes) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
  if (fd_ < 0) Fail("cannot create " + path + " for direct I/O: " + std::strerror(errno));
  const auto data = Aligned(kWrite);
  std::mt19937_64 random(7);
  for (int64_t i = 0; i < kWrite; i += 8) {
    const uint64_t word = random();
    std::memcpy(data.get() + i, &word, sizeof(word));
  }
  for (int64_t at = 0; at < bytes; at += kWrite) {
    if (::pwrite(fd_, data.get(), kWrite, at) != kWrite) {
      Fail("cannot write " + path + ": " + std::strerror(errno));
    }
    blocks_ += kWrite / kBlock;
  }
}

DiskProbe::~DiskProbe() {
  ::close(fd_);
  ::unlink(path_.c_str());
}

double DiskProbe::ReadsPerSecond(int64_t reads, uint32_t depth) {
  io_uring ring;
  if (const int result = io_uring_queue_init(depth, &ring, 0); result < 0) {
    Fail(std::string("io_uring: ") + std::strerror(-result));
  }
  const auto memory = Aligned(depth * kBlock);
  std::mt19937_64 random(seed_++);
  const auto add = [&](uint64_t slot) {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring);
    const auto block = static_cast<int64_t>(random() % static_cast<uint64_t>(blocks_));
    io_uring_prep_read(sqe, fd_, memory.get() + slot * kBlock, kBlock,
                       static_cast<uint64_t>(block * kBlock));
    io_uring_sqe_set_data64(sqe, slot);
  };
  const Stopwatch watch;
  int64_t started = 0;
  int64_t finished = 0;
  for (; started < depth && started < reads; ++started) add(static_cast<uint64_t>(started));
  while (finished < reads) {
    const int64_t flying = started - finished;
    io_uring_submit_and_wait(&ring, static_cast<unsigned>(std::min<int64_t>(flying, 8)));
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring, head, cqe) {
      if (cqe->res != kBlock) Fail("a read of " + path_ + " gave " + std::to_string(cqe->res));
      ++count;
      if (started < reads) {
        add(io_uring_cqe_get_data64(cqe));
        ++started;
      }
    }
    io_uring_cq_advance(&ring, count);
    finished += count;
  }
  const double seconds = watch.Seconds();
  io_uring_queue_exit(&ring);
  return static_cast<double>(reads) / seconds;
}

}  // namespace mxrec::bench
