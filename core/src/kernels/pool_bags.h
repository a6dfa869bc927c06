// The loop of all pooled sums: bags are spread over the threads, the rows of a bag are found some
// occurrences ahead of being added.
#pragma once

#include <cstddef>
#include <functional>

#include "mxrec/table_types.h"

namespace mxrec::kernels {

inline constexpr size_t kPoolWindow = 32;  // occurrences in flight: covers the latency of memory

// Finds the rows of the occurrences [begin, begin + n), n <= kPoolWindow, and prefetches them.
// rows: [n]. Called from several threads at a time.
using FindRows = std::function<void(size_t begin, size_t n, const float** rows)>;
// Makes floats of a row that does not lie in memory as floats. out: [dim].
using LoadRow = std::function<void(const float* row, float* out)>;

// out[b]: [dim], see PoolRows. load: null: rows are floats.
void PoolBags(const Bags& bags, int dim, const FindRows& find, const LoadRow& load, float* out);

}  // namespace mxrec::kernels
