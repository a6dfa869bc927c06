// XXH3-64 with seed 0: the checksum of every stored byte.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mxrec::checkpoint {

uint64_t Checksum(const void* data, size_t bytes);

}  // namespace mxrec::checkpoint
