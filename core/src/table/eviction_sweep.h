// EvictionSweep: what a trigger of eviction is to remove, and how far the sweep behind it has come.
//
// The sweep goes over the index, segment by segment, in laps: one that measures frequencies (if
// max_rows is a rule), one that removes rows, one that forgets old counts, and one that moves the
// rows of sparse slabs together. Positions in the index outlast splits and merges, so a lap can
// pause between any two segments. A trigger that comes meanwhile starts its laps where the last one
// stands: however often it comes, every segment has its turn.
//
// Guarded as a TableState's change, and what readers look at (by_age, cutoff) by every shard's
// lock.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace mxrec {

struct EvictionSweep {
  static constexpr uint64_t kEnd = uint64_t{1} << 32;  // of positions

  enum class Phase : uint8_t { kMeasure, kRows, kCounts, kDrain };
  // Of one shard.
  struct Lap {
    uint64_t position = 0;
    uint64_t left = 0;  // positions to go, from `position` on and round
    bool done() const { return left == 0; }
    void Begin() { left = kEnd; }
    void MoveTo(uint64_t next) {
      const uint64_t passed = next - position;
      left -= passed < left ? passed : left;
      position = next == kEnd ? 0 : next;
    }
  };

  uint16_t number = 0;  // of the sweep, never 0 once there was one
  Phase phase = Phase::kRows;
  std::vector<Lap> laps;    // by shard
  uint32_t next_shard = 0;  // whose turn it is

  bool by_age = false;
  uint32_t cutoff = 0;  // last uses up to it are too old
  float min_l2 = 0.0f;
  int64_t max_rows = 0;
  // Least frequent rows: those below `least_frequency`, and of those equal to it the first `ties`
  // of each shard, in the order of hashes.
  std::vector<std::map<uint32_t, int64_t>> frequencies;  // by shard: rows of each frequency
  uint32_t least_frequency = 0;
  std::vector<int64_t> ties;  // by shard
};

}  // namespace mxrec
