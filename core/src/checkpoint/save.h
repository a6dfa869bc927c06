// How much a save puts in one block and one part. Tests make them small.
#pragma once

#include <cstdint>
#include <string>

#include "mxrec/checkpoint.h"

namespace mxrec::checkpoint {

struct SaveLimits {
  uint64_t block_bytes = uint64_t{1} << 20;  // payload, about; at least one row, <= 16 MiB
  uint64_t part_bytes = uint64_t{1} << 30;   // a part is ended by the block that reaches this
};

Result<CheckpointInfo> SaveWithLimits(const Table& table, const std::string& dir, int64_t step,
                                      Env* env, const SaveLimits& limits);

}  // namespace mxrec::checkpoint
