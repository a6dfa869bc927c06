// Random bits that are a pure function of (seed, key, column): no state, no order, no threads.
#pragma once

#include <cstdint>

namespace mxrec {

// A 64-bit finaliser (SplitMix64, variant 13 of Stafford's): a bijection whose output bits each
// depend on every input bit.
inline uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The stream of one row: two rounds bind seed and key, a third each column.
class RowBits {
 public:
  RowBits(uint64_t seed, int64_t key)
      : state_(MixBits(MixBits(seed + kGolden) ^ (static_cast<uint64_t>(key) + kGolden))) {}

  uint64_t Bits(uint64_t column) const { return MixBits(state_ + (column + 1) * kGolden); }

  // Uniform in (0, 1): the midpoints of 2^52 equal intervals, exact in a double.
  double Unit(uint64_t column) const {
    return (static_cast<double>(static_cast<int64_t>(Bits(column) >> 12)) + 0.5) * 0x1p-52;
  }

 private:
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;
  uint64_t state_;
};

}  // namespace mxrec
