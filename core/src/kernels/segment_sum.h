// SegmentPart: which segments one part of a SegmentSum owns. Groups of 2^group_bits segments are
// dealt out to the parts in turn, so that each gets its share of the few hot ones.
#pragma once

#include <cstdint>

namespace mxrec::kernels {

struct SegmentPart {
  uint32_t index;     // of `parts`
  uint32_t parts;     // a power of two
  int group_bits;     // segments of a group: 2^group_bits
  uint32_t segments;  // of all parts

  bool Owns(uint32_t segment) const {
    return segment < segments && ((segment >> group_bits) & (parts - 1)) == index;
  }
};

}  // namespace mxrec::kernels
