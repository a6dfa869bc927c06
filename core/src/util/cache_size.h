// The processor's caches, as the system describes them.
#pragma once

#include <cstddef>
#include <string>

namespace mxrec {

// Bytes of the level's data cache that one core can fill, shared ones whole; 0: unknown.
size_t CacheBytes(int level);
// What files laid out as in /sys/devices/system/cpu/cpu0/cache say; 0: nothing.
size_t CacheBytesIn(const std::string& folder, int level);

}  // namespace mxrec
