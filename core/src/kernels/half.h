// Rows of 16-bit values and back. half_bits.h says how a value is rounded; vector versions are
// chosen at run time and equal it bit for bit.
//
// `type` is kFloat16 or kBfloat16. Pointers need no alignment beyond their type's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/row_copier.h"
#include "mxrec/options.h"

namespace mxrec::kernels {

// from: [n], to: [n]; exact.
void PromoteRow(ValueType type, const uint16_t* from, size_t n, float* to);
// PromoteRow as the copy of a batch: rows of the copier point to 16-bit values, its absent_row and
// out are floats. Honours the gather mode.
RowCopier ChoosePromotingCopier(ValueType type);
// To nearest, ties to even.
void DemoteRow(ValueType type, const float* from, size_t n, uint16_t* to);
// Stochastically: column c takes RoundingBits(stream, c).
void DemoteRowStochastic(ValueType type, const float* from, size_t n, uint64_t stream,
                         uint16_t* to);

}  // namespace mxrec::kernels
