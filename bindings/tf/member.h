// Member: one of the ops that a grouped op stands for.
#pragma once

namespace mxrec::tf {

// A grouped op has a list for every input and output of the single op, one element a member, and
// for every attribute that members may differ in. An op by itself is the one member of its group.
struct Member {
  int index = 0;
  int count = 1;

  // Place of the member's `position`-th input or output among all of the grouped op.
  int at(int position) const { return position * count + index; }
};

}  // namespace mxrec::tf
