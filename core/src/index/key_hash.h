// How a key finds its place: 64-bit mix -> shard (high bits) -> position (the next 32 bits, through
// Spread) -> segment (directory prefix of the position) -> bucket (low bits).
#pragma once

#include <cstdint>

namespace mxrec {

// A bijective finaliser (splitmix64, Steele et al. 2014): distinct keys have distinct hashes.
inline uint64_t HashKey(int64_t key) {
  uint64_t x = static_cast<uint64_t>(key) + 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

inline uint32_t ShardOf(uint64_t hash, int shard_bits) {
  return shard_bits == 0 ? 0 : static_cast<uint32_t>(hash >> (64 - shard_bits));
}

// Uniform hashing fills all segments together, so a whole table would split within a few batches.
// A monotone map makes keys twice as dense at one end of the position range as at the other, which
// spreads the splits evenly over each doubling of the table (after Martin's spiral storage, 1979):
// p = u + u(1 - u)/3 in 32-bit fixed point; its derivative falls from 4/3 to 2/3.
inline uint32_t Spread(uint32_t u) {
  const uint64_t bump = (static_cast<uint64_t>(u) * static_cast<uint32_t>(~u)) >> 32;
  return u + static_cast<uint32_t>((bump * 85) >> 8);
}

inline uint32_t PositionOf(uint64_t hash, int shard_bits) {
  return Spread(static_cast<uint32_t>((hash << shard_bits) >> 32));
}

}  // namespace mxrec
