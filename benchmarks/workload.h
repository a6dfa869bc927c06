// Keys that the benchmarks work on, drawn before the clock starts. The same law as
// py/workload.py: a bounded Zipf over ranks, scrambled over int64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mxrec::bench {

enum class Distribution { kUniform = 0, kZipf = 1 };  // Zipf: density of rank r ~ r^-1.05

using Batch = std::vector<int64_t>;

int64_t KeyOfRank(int64_t rank);

// `count` batches of `size` keys out of the first `rows` ranks.
std::vector<Batch> DrawBatches(Distribution distribution, int64_t rows, size_t size, size_t count,
                               uint64_t seed);

// Every key of the first `rows` ranks once, in batches.
std::vector<Batch> AllKeys(int64_t rows, size_t size);

}  // namespace mxrec::bench
