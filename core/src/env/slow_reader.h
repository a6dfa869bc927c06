// SlowReader: reads as another BatchReader does, but as if each read took longer: to see how a
// model trains on a slower disk. PosixEnv uses it where the environment sets
// MXREC_SSD_READ_DELAY_MICROS.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "env/direct_file.h"

namespace mxrec {

class SlowReader final : public BatchReader {
 public:
  SlowReader(std::unique_ptr<BatchReader> reader, uint32_t depth, std::chrono::microseconds delay)
      : reader_(std::move(reader)), depth_(depth), delay_(delay) {}

  // Reads that are under way together wait together.
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
