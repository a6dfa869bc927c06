// PageAllocator: memory from the operating system for index segments and row slabs.
//
// Pieces of all sizes are carved one behind the other from large regions, so that huge pages fill
// and fault one at a time however many shards grow at once: no batch pays for a page per shard. A
// huge page without a live piece goes back to the system, and so does a whole region.
//
// Huge pages are asked for where a table is large enough to profit (`huge`): a small table then
// costs the 4 KiB pages that it touches, not 2 MiB per piece.
//
// Thread-safe. Never throws: null means that the system gave no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "util/mutex.h"

namespace mxrec {

inline constexpr size_t kHugePage = size_t{2} << 20;
inline constexpr size_t kSmallPage = size_t{4} << 10;

class PageAllocator {
 public:
  enum class Contents : uint8_t {
    kZero,
    kAny,  // whatever an earlier piece left there
  };

  PageAllocator() = default;
  ~PageAllocator();
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  void* Allocate(size_t bytes, bool huge, Contents contents = Contents::kZero);
  // `bytes` as it was allocated.
  void Free(void* p, size_t bytes);
  // Moves a piece to the lowest free one of its size that lies before it; p itself if there is
  // none.
  void* MoveLower(void* p, size_t bytes);

  // Bytes that are resident once every live piece has been touched: whole huge pages, freed pieces
  // between live ones included.
  int64_t held_bytes() const;

  // For tests: the n-th allocation from now fails, in this process; -1: none.
  static void FailAllocation(int64_t n);

 private:
  struct Region {
    char* base;
    size_t bytes;
    bool huge;
    size_t carved = 0;           // [base, base + carved) has been given out at least once
    size_t live = 0;             // pieces
    std::vector<uint16_t> used;  // per huge page: small pages of live pieces
  };
  using Size = std::pair<bool, size_t>;  // huge, bytes

  Region* Map(size_t piece, bool huge) MXREC_REQUIRES(mu_);
  Region* Owner(const char* p) MXREC_REQUIRES(mu_);
  // Null: no free piece that low.
  char* Recycle(Size size, const char* below) MXREC_REQUIRES(mu_);
  void Return(char* p, size_t bytes) MXREC_REQUIRES(mu_);
  void Take(Region* region, char* p, size_t bytes, bool recycled, Contents contents)
      MXREC_REQUIRES(mu_);
  void Forget(const Region& region) MXREC_REQUIRES(mu_);

  mutable Mutex mu_;
  std::map<const char*, Region> regions_ MXREC_GUARDED_BY(mu_);  // by base
  Region* current_[2] MXREC_GUARDED_BY(mu_) = {};                // carved from: small, huge
  std::map<Size, std::set<char*>> free_ MXREC_GUARDED_BY(mu_);
  size_t mapped_ MXREC_GUARDED_BY(mu_) = 0;  // in regions of huge pages
  size_t held_ MXREC_GUARDED_BY(mu_) = 0;
};

}  // namespace mxrec
