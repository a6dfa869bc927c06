// What a table of a size needs, whether the machine has it, and how far a long run is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "memory.h"

namespace mxrec::bench {

// Bytes that any adapter may hold while it grows to `rows`. Rows that the map itself stores move
// with it, and its load may be a half before and after.
inline int64_t NeededBytes(int64_t rows, int row_floats, bool rows_in_the_map) {
  const int64_t row_bytes = int64_t{row_floats} * static_cast<int64_t>(sizeof(float));
  return rows * (rows_in_the_map ? 4 * row_bytes + 64 : row_bytes + row_bytes / 8 + 80);
}

// Whether `needed` bytes are left of the machine's memory; says on stderr when they are not.
inline bool Fits(const std::string& what, int64_t needed) {
  const int64_t available = AvailableBytes() / 10 * 9;
  if (needed <= available) return true;
  constexpr double kGiB = 1 << 30;
  std::fprintf(stderr, "skipped: %s may need %.1f GiB and %.1f are available\n", what.c_str(),
               static_cast<double>(needed) / kGiB, static_cast<double>(available) / kGiB);
  return false;
}

// How far a long program is, on stderr: "progress: DONE/TOTAL WHAT", at most a hundred lines.
class Progress {
 public:
  Progress(std::string what, int64_t total) : what_(std::move(what)), total_(total) {}

  void Update(int64_t done) {
    const int64_t percent = done * 100 / std::max<int64_t>(total_, 1);
    if (percent == shown_) return;
    shown_ = percent;
    std::fprintf(stderr, "progress: %lld/%lld %s\n", static_cast<long long>(done),
                 static_cast<long long>(total_), what_.c_str());
  }

 private:
  std::string what_;
  int64_t total_;
  int64_t shown_ = -1;
};

}  // namespace mxrec::bench
