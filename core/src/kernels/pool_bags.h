// The loop of all pooled sums: bags are spread over the threads, the rows of a bag are found some
// occurrences ahead of being added.
#pragma once

#include <cstddef>
#include <functional>

#include "mxrec/pooling.h"

namespace mxrec::kernels {

inline constexpr size_t kPoolWindow = 32;  // occurrences in flight: covers the latency of memory

// Finds the rows of the occurrences [begin, begin + n), n <= kPoolWindow, and prefetches them.
// rows: [n], none null. Called from several threads at a time.
using FindRows = std::function<void(size_t begin, size_t n, const float** rows)>;

// out[b]: [dim], see PoolRows.
void PoolBags(const Bags& bags, int dim, const FindRows& find, float* out);

}  // namespace mxrec::kernels
