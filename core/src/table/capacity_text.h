// What errors say to do about a table that is full.
#pragma once

#include <string>

#include "mxrec/options.h"

namespace mxrec {

// The sizes that it has.
inline std::string SizesOf(const TableOptions& options) {
  const std::string memory = "memory_rows " + std::to_string(options.memory_rows);
  return options.ssd_rows == 0 ? memory
                               : memory + " and ssd_rows " + std::to_string(options.ssd_rows);
}
// The sizes to raise; tiered: of a table with an SSD tier.
inline std::string SizesToRaise(bool tiered) {
  const std::string memory =
      "memory_rows (device_vocabulary_size or host_vocabulary_size of create_table)";
  return tiered ? memory + " or ssd_rows (ssd_vocabulary_size)" : memory;
}

}  // namespace mxrec
