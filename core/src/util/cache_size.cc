#include "util/cache_size.h"

#include <unistd.h>

#include <fstream>

namespace mxrec {

size_t CacheBytesIn(const std::string& folder, int level) {
  for (int i = 0;; ++i) {
    const std::string cache = folder + "/index" + std::to_string(i);
    int its_level = 0;
    if (!(std::ifstream(cache + "/level") >> its_level)) return 0;
    std::string type;
    if (!(std::ifstream(cache + "/type") >> type) || its_level != level || type == "Instruction") {
      continue;
    }
    size_t size = 0;
    char unit = 0;
    std::ifstream(cache + "/size") >> size >> unit;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : 0;
  }
}

// The C library is asked second: for AMD it counts the third-level caches of a whole socket, of
// which a core reaches one, and for ARM it knows none.
size_t CacheBytes(int level) {
  if (const size_t bytes = CacheBytesIn("/sys/devices/system/cpu/cpu0/cache", level); bytes > 0) {
    return bytes;
  }
  long bytes = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  if (level == 1) bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  if (level == 2) bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (level == 3) bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
  return bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

}  // namespace mxrec
