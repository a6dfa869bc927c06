// The 16-bit floating-point formats, one value at a time: what the vector kernels of half.cc must
// equal bit for bit.
//
// Rounding: to nearest, ties to even, or stochastic. Either way a magnitude above the format's
// largest finite number, infinity included, becomes that number: an infinity would spread to
// whatever meets it. A NaN becomes the format's quiet NaN.
//
// Integer arithmetic, or float arithmetic whose operands are no denormals: TensorFlow's threads
// flush those to zero, which must not show.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "initializers/random_bits.h"

namespace mxrec::kernels {

inline constexpr uint32_t kSignBit = 0x80000000u;
inline constexpr uint32_t kFloatInfinity = 0x7f800000u;

// 32 random bits for a column of a row: a pure function of the stream and the column, of 32-bit
// operations that every instruction set has in vectors.
inline uint32_t RoundingBits(uint64_t stream, uint32_t column) {
  uint32_t x = static_cast<uint32_t>(stream) + (column + 1) * 0x9e3779b9u;
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x ^= static_cast<uint32_t>(stream >> 32);
  x = (x ^ (x >> 15)) * 0x735a2d97u;
  return x ^ (x >> 15);
}

// What a row is known by: not its place, which depends on shards and on the order of insertion.
inline uint32_t RoundingIdentity(uint64_t seed, int64_t key) {
  // The salt sets it apart from the bits that initial values are drawn from.
  return static_cast<uint32_t>(RowBits(seed ^ 0x6a09e667f3bcc908ull, key).Bits(0));
}

// step: of the optimizer, from 1.
inline uint64_t RoundingStream(uint32_t identity, int64_t step) {
  return MixBits(MixBits(static_cast<uint64_t>(step)) ^ identity);
}

struct Float16 {
  static constexpr uint32_t kLargest = 0x477fe000u;         // 65504, as float
  static constexpr uint32_t kSmallestNormal = 0x38800000u;  // 2^-14, as float
  static constexpr uint32_t kBias = 112u << 23;             // float's exponent bias minus half's
  static constexpr uint16_t kNan = 0x7e00;

  static float ToFloat(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    const uint32_t magnitude = half & 0x7fff;
    uint32_t bits;
    if (magnitude < 0x400) {
      bits = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
    } else if (magnitude < 0x7c00) {
      bits = (magnitude << 13) + kBias;
    } else {
      bits = (magnitude << 13) + 2 * kBias;
      if (magnitude > 0x7c00) bits |= 0x400000;  // quiet
    }
    return std::bit_cast<float>(bits | sign);
  }

  static uint16_t Nearest(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & ~kSignBit;
    if (magnitude > kFloatInfinity) return kNan;
    const uint32_t finite = std::min(magnitude, kLargest);
    uint32_t half;
    if (finite < kSmallestNormal) {
      // The last bit of a float in [0.5, 1) is worth 2^-24, as that of a denormal half.
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(finite) + 0.5f) -
             std::bit_cast<uint32_t>(0.5f);
    } else {
      half = (finite - kBias + 0xfff + ((finite >> 13) & 1)) >> 13;
    }
    return static_cast<uint16_t>(half | ((bits & kSignBit) >> 16));
  }

  // Up with the probability of the part that does not fit.
  static uint16_t Stochastic(float value, uint32_t random) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & ~kSignBit;
    if (magnitude > kFloatInfinity) return kNan;
    const uint32_t finite = std::min(magnitude, kLargest);
    uint32_t half;
    if (finite < kSmallestNormal) {
      const float scaled = std::bit_cast<float>(finite) * 0x1p24f;
      half = static_cast<uint32_t>(scaled);
      // At least 2^-24: a denormal float never goes up, whether it was flushed to zero or not.
      const float chance = (static_cast<float>(random >> 9) + 0.5f) * 0x1p-23f;
      if (chance < scaled - static_cast<float>(half)) ++half;
    } else {
      half = (finite - kBias + (random >> 19)) >> 13;
    }
    return static_cast<uint16_t>(half | ((bits & kSignBit) >> 16));
  }
};

struct Bfloat16 {
  static constexpr uint32_t kLargest = 0x7f7f0000u;
  static constexpr uint16_t kNan = 0x7fc0;

  static float ToFloat(uint16_t half) {
    return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
  }

  static uint16_t Nearest(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & ~kSignBit;
    if (magnitude > kFloatInfinity) return kNan;
    const uint32_t finite = std::min(magnitude, kLargest);
    const uint32_t half = (finite + 0x7fff + ((finite >> 16) & 1)) >> 16;
    return static_cast<uint16_t>(half | ((bits & kSignBit) >> 16));
  }

  static uint16_t Stochastic(float value, uint32_t random) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & ~kSignBit;
    if (magnitude > kFloatInfinity) return kNan;
    const uint32_t finite = std::min(magnitude, kLargest);
    const uint32_t half = (finite + (random >> 16)) >> 16;
    return static_cast<uint16_t>(half | ((bits & kSignBit) >> 16));
  }
};

}  // namespace mxrec::kernels
