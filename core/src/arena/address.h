// Row addresses: [0 | table tag: 11 | generation: 16 | slot: 36], slot = shard slot * shards +
// shard. The sign bit is clear, so no address is negative and kNoAddress (-1) is none.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mxrec {

inline constexpr int kTagBits = 11;
inline constexpr int kGenerationBits = 16;
inline constexpr int kSlotBits = 36;
static_assert(kTagBits + kGenerationBits + kSlotBits == 63);

struct Address {
  uint32_t tag;
  uint16_t generation;
  uint32_t shard;
  uint32_t slot;  // within the shard

  static int64_t Pack(uint32_t tag, uint16_t generation, uint32_t shard, uint32_t slot,
                      int shard_bits) {
    const uint64_t where = (static_cast<uint64_t>(slot) << shard_bits) | shard;
    return static_cast<int64_t>((static_cast<uint64_t>(tag) << (kGenerationBits + kSlotBits)) |
                                (static_cast<uint64_t>(generation) << kSlotBits) | where);
  }
  static Address Unpack(int64_t address, int shard_bits) {
    const auto bits = static_cast<uint64_t>(address);
    const uint64_t where = bits & ((uint64_t{1} << kSlotBits) - 1);
    return {static_cast<uint32_t>(bits >> (kGenerationBits + kSlotBits)),
            static_cast<uint16_t>(bits >> kSlotBits),
            static_cast<uint32_t>(where & ((uint64_t{1} << shard_bits) - 1)),
            // A forged one may name a slot past 32 bits: it must not become that of a row.
            static_cast<uint32_t>(std::min(where >> shard_bits, uint64_t{0xFFFFFFFF}))};
  }
};

}  // namespace mxrec
