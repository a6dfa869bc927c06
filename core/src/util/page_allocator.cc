#include "util/page_allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

namespace mxrec {
namespace {

// Regions grow with the table: address space is not memory, but limits on it exist.
constexpr size_t kSmallRegion = kHugePage;
constexpr size_t kLeastRegion = 4 * kHugePage;
constexpr size_t kMostRegion = 32 * kHugePage;

std::atomic<int64_t> fail_countdown{-1};

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Maps `bytes` (a multiple of a huge page) at a huge-page boundary.
char* MapAligned(size_t bytes, bool huge) {
  const size_t padded = bytes + kHugePage;
  void* raw = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = RoundUp(begin, kHugePage);
  if (aligned > begin) munmap(raw, aligned - begin);
  const size_t tail = begin + padded - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  char* p = reinterpret_cast<char*>(aligned);
  madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return p;
}

// The memory of [p, p + bytes) back to the system; it reads as zero then.
void GiveBack(char* p, size_t bytes) {
  if (madvise(p, bytes, MADV_DONTNEED) != 0) std::memset(p, 0, bytes);  // locked into memory
}

// Calls visit(huge page's number, first byte of the piece on it, bytes of the piece on it).
template <class Visit>
void ForEachHugePage(const char* base, char* p, size_t bytes, Visit&& visit) {
  for (char* const end = p + bytes; p < end;) {
    const auto page = static_cast<size_t>(p - base) / kHugePage;
    const size_t room = (page + 1) * kHugePage - static_cast<size_t>(p - base);
    const size_t here = std::min(room, static_cast<size_t>(end - p));
    visit(page, p, here);
    p += here;
  }
}

}  // namespace

void PageAllocator::FailAllocation(int64_t n) { fail_countdown = n; }

PageAllocator::~PageAllocator() {
  for (auto& [base, region] : regions_) munmap(region.base, region.bytes);
}

int64_t PageAllocator::held_bytes() const {
  const MutexLock lock(mu_);
  return static_cast<int64_t>(held_);
}

PageAllocator::Region* PageAllocator::Map(size_t piece, bool huge) {
  size_t bytes = RoundUp(piece, kHugePage);
  if (bytes <= kMostRegion / 4) {
    const size_t room = huge ? std::clamp(mapped_ / 8, kLeastRegion, kMostRegion) : kSmallRegion;
    bytes = std::max(bytes, RoundUp(room, kHugePage));
  }
  char* base = MapAligned(bytes, huge);
  if (base == nullptr) return nullptr;
  try {
    Region region{.base = base, .bytes = bytes, .huge = huge, .used = {}};
    region.used.resize(bytes / kHugePage);
    if (huge) mapped_ += bytes;
    return &regions_.emplace(base, std::move(region)).first->second;
  } catch (const std::bad_alloc&) {
    munmap(base, bytes);
    return nullptr;
  }
}

PageAllocator::Region* PageAllocator::Owner(const char* p) {
  return &std::prev(regions_.upper_bound(p))->second;
}

char* PageAllocator::Recycle(Size size, const char* below) {
  const auto it = free_.find(size);
  if (it == free_.end() || it->second.empty()) return nullptr;
  if (below != nullptr && *it->second.begin() >= below) return nullptr;
  // The lowest address, so that the highest pages empty out.
  char* p = *it->second.begin();
  it->second.erase(it->second.begin());
  if (it->second.empty()) free_.erase(it);
  return p;
}

void PageAllocator::Take(Region* region, char* p, size_t bytes, bool recycled, Contents contents) {
  ++region->live;
  // A freed piece of small pages has been given back: it is zero, and no longer held.
  size_t held = region->huge ? 0 : bytes;
  ForEachHugePage(region->base, p, bytes, [&](size_t page, char* at, size_t here) {
    uint16_t& used = region->used[page];
    if (region->huge) {
      if (used == 0) {
        held += kHugePage;
      } else if (recycled && contents == Contents::kZero) {
        std::memset(at, 0, here);
      }
    }
    used = static_cast<uint16_t>(used + here / kSmallPage);
  });
  held_ += held;
}

void* PageAllocator::Allocate(size_t bytes, bool huge, Contents contents) {
  if (fail_countdown.load(std::memory_order_relaxed) >= 0 && fail_countdown.fetch_sub(1) == 0) {
    return nullptr;
  }
  bytes = RoundUp(std::max<size_t>(bytes, 1), kSmallPage);
  const MutexLock lock(mu_);
  if (char* p = Recycle({huge, bytes}, nullptr); p != nullptr) {
    Take(Owner(p), p, bytes, true, contents);
    return p;
  }
  Region* region = current_[huge];
  if (region == nullptr || region->carved + bytes > region->bytes) {
    region = Map(bytes, huge);
    if (region == nullptr) return nullptr;
    if (region->bytes > bytes) current_[huge] = region;
  }
  char* p = region->base + region->carved;
  region->carved += bytes;
  Take(region, p, bytes, false, contents);
  return p;
}

// Removes the free pieces of a region.
void PageAllocator::Forget(const Region& region) {
  for (auto it = free_.begin(); it != free_.end();) {
    std::set<char*>& pieces = it->second;
    pieces.erase(pieces.lower_bound(region.base), pieces.lower_bound(region.base + region.bytes));
    it = pieces.empty() ? free_.erase(it) : std::next(it);
  }
}

void PageAllocator::Free(void* p, size_t bytes) {
  if (p == nullptr) return;
  const MutexLock lock(mu_);
  Return(static_cast<char*>(p), RoundUp(std::max<size_t>(bytes, 1), kSmallPage));
}

void* PageAllocator::MoveLower(void* p, size_t bytes) {
  const size_t rounded = RoundUp(std::max<size_t>(bytes, 1), kSmallPage);
  const MutexLock lock(mu_);
  char* const piece = static_cast<char*>(p);
  char* to = Recycle({Owner(piece)->huge, rounded}, piece);
  if (to == nullptr) return p;
  Take(Owner(to), to, rounded, true, Contents::kAny);
  std::memcpy(to, piece, bytes);
  Return(piece, rounded);
  return to;
}

void PageAllocator::Return(char* piece, size_t bytes) {
  Region* region = Owner(piece);
  --region->live;
  size_t given_back = region->huge ? 0 : bytes;
  ForEachHugePage(region->base, piece, bytes, [&](size_t page, char*, size_t here) {
    uint16_t& used = region->used[page];
    used = static_cast<uint16_t>(used - here / kSmallPage);
    if (!region->huge || used != 0) return;
    given_back += kHugePage;
    if (region->live > 0) GiveBack(region->base + page * kHugePage, kHugePage);
  });
  held_ -= given_back;
  if (region->live == 0) {
    Forget(*region);
    if (region == current_[region->huge]) current_[region->huge] = nullptr;
    if (region->huge) mapped_ -= region->bytes;
    munmap(region->base, region->bytes);
    regions_.erase(region->base);
    return;
  }
  if (!region->huge) GiveBack(piece, bytes);
  try {
    free_[{region->huge, bytes}].insert(piece);
  } catch (const std::bad_alloc&) {
    // Its address space is not used again until the region is free; its memory is accounted for.
  }
}

}  // namespace mxrec
