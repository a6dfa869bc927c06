// Keys that the benchmarks work on, drawn before the clock starts. The same laws as
// python/mxrec/bench/workload.py: a bounded Zipf over ranks, or uniform, scrambled over int64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mxrec::bench {

// The density of rank r is proportional to (r + 1)^-exponent; 0: uniform.
struct Law {
  double exponent = 0.0;

  bool uniform() const { return exponent == 0.0; }
  std::string name() const;  // "uniform", "zipf1.05"
};

using Batch = std::vector<int64_t>;

int64_t KeyOfRank(int64_t rank);

// `count` batches of `size` ranks in [0, rows).
std::vector<Batch> DrawRanks(Law law, int64_t rows, size_t size, size_t count, uint64_t seed);
// Their keys.
std::vector<Batch> DrawKeys(Law law, int64_t rows, size_t size, size_t count, uint64_t seed);

// The keys of the ranks in [begin, end).
Batch KeysOfRanks(int64_t begin, int64_t end);

}  // namespace mxrec::bench
