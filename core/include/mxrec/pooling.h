// Pooled lookups: the rows of a bag of keys combined into one, without an array of one row per key.
//
// Sums run in ascending order of the occurrences, one after the other, in float; vector versions
// are chosen at run time and equal the scalar reference bit for bit; results do not depend on the
// number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "mxrec/status.h"

namespace mxrec {

// What the weighted sum of a bag is divided by. A bag whose divisor is 0 pools to zeros, an empty
// one too, and has zero gradients.
enum class Combiner : uint8_t {
  kSum,    // 1
  kMean,   // the sum of the weights
  kSqrtN,  // the square root of the sum of their squares
};
// "sum", "mean", "sqrtn"
MXREC_API std::optional<Combiner> CombinerFromName(std::string_view name);

// The bags of a batch of n occurrences: bag b holds [offsets[b], offsets[b + 1]).
struct Bags {
  std::span<const int64_t> offsets;  // [size() + 1], not descending, from 0 to n
  const float* weights = nullptr;    // [n]; null: all 1
  Combiner combiner = Combiner::kSum;

  size_t size() const { return offsets.size() - 1; }
  size_t occurrences() const { return static_cast<size_t>(offsets.back()); }
};
// kInvalidArgument, naming `offsets`, unless they are as above.
MXREC_API Status Validate(const Bags& bags, size_t occurrences);

// Bags are valid. inverse: [n], the row of each occurrence, below the number of rows; a negative
// index stands for a row of zeros.
namespace kernels {

// out[b] = sum of weights[i] * rows[inverse[i]] over bag b / divisor of b.
// rows: [u, dim], out: [bags, dim].
MXREC_API void PoolRows(const float* rows, const int32_t* inverse, const Bags& bags, int dim,
                        float* out);
// Gradient of PoolRows with respect to rows: out[j] = sum of weights[i] / divisor of i's bag *
// grads[i's bag] over i with inverse[i] == j. grads: [bags, dim], out: [u, dim].
MXREC_API void PooledSegmentSum(const float* grads, const int32_t* inverse, const Bags& bags,
                                size_t u, int dim, float* out);
// Gradient of PoolRows with respect to weights. out: [n].
MXREC_API void PooledWeightGradients(const float* rows, const int32_t* inverse, const Bags& bags,
                                     const float* grads, int dim, float* out);

}  // namespace kernels
}  // namespace mxrec
