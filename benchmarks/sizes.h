// What a table of a size needs, and whether the machine has it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "memory.h"

namespace mxrec::bench {

// Bytes that the dearest adapter may hold while it grows to `rows`: rows with their accumulator in
// a map at half its load, beside the map that it is moving from.
inline int64_t NeededBytes(int64_t rows, int dim, bool rows_in_the_map) {
  const int64_t row_bytes = int64_t{2} * dim * static_cast<int64_t>(sizeof(float));
  return rows * (rows_in_the_map ? 4 * row_bytes + 64 : row_bytes + row_bytes / 8 + 96);
}

// Whether a table fits into what the machine has left; says on stderr when it does not.
inline bool Fits(const std::string& what, int64_t rows, int dim, bool rows_in_the_map) {
  const int64_t needed = NeededBytes(rows, dim, rows_in_the_map);
  const int64_t available = AvailableBytes() / 10 * 9;
  if (needed <= available) return true;
  constexpr double kGiB = 1 << 30;
  std::fprintf(stderr,
               "skipped: %s, %lld rows of dim %d may need %.1f GiB and %.1f are available\n",
               what.c_str(), static_cast<long long>(rows), dim, static_cast<double>(needed) / kGiB,
               static_cast<double>(available) / kGiB);
  return false;
}

}  // namespace mxrec::bench
