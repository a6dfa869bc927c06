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
  // Own segments in ascending order; First() or After() may be `segments` or more: none is left.
  uint32_t First() const { return index << group_bits; }
  uint32_t After(uint32_t segment) const {
    const uint32_t group = uint32_t{1} << group_bits;
    const uint32_t next = segment + 1;
    return next + ((next & (group - 1)) == 0 ? (parts - 1) << group_bits : 0);
  }
};

}  // namespace mxrec::kernels
