// SlowReader: reads as another BatchReader does, but as if each read took longer on a disk that has
// 64 of a thread's under way at most: to see how a model trains on a slower disk. PosixEnv uses it
// where the environment sets MXREC_SSD_READ_DELAY_MICROS.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "env/direct_file.h"

namespace mxrec {

class SlowReader final : public BatchReader {
  static constexpr uint32_t kDiskDepth = 64;

 public:
  SlowReader(std::unique_ptr<BatchReader> reader, uint32_t depth, std::chrono::microseconds delay)
      : reader_(std::move(reader)), depth_(std::min(depth, kDiskDepth)), delay_(delay) {}

  // Reads that are under way together on that disk wait together.
  void Read(std::span<BlockRead> reads, const Call& start, const Call& done) override {
    std::this_thread::sleep_for(delay_ * ((reads.size() + depth_ - 1) / depth_));
    reader_->Read(reads, start, done);
  }
  ReadMethod method() const override { return reader_->method(); }

 private:
  const std::unique_ptr<BatchReader> reader_;
  const uint32_t depth_;
  const std::chrono::microseconds delay_;
};

}  // namespace mxrec
