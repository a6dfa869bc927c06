// SpilledLap: how far a save has come with the rows on SSD. It goes over them in the order in which
// they lie there, a window of locations at a time, so that the disk is read from front to back; the
// keys of a window are gathered from the index before. Rows that compaction moves meanwhile are
// left to the save's lap over the index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mxrec {

struct SpilledLap {
  struct Item {
    uint32_t location;
    int64_t key;
  };
  bool begun = false;
  uint64_t next = 0;        // location where the next window begins
  uint64_t end = 0;         // of all locations
  uint64_t width = 0;       // of a window
  std::vector<Item> items;  // of the window, by location
  size_t at = 0;            // in items
};

}  // namespace mxrec
