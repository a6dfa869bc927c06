#include "checkpoint/checksum.h"

#define XXH_INLINE_ALL  // the library is compiled in: nothing to install where the engine runs
#include <xxhash.h>

namespace mxrec::checkpoint {

uint64_t Checksum(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

}  // namespace mxrec::checkpoint
