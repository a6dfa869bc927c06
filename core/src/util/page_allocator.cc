#include "util/page_allocator.h"

#include <sys/mman.h>

#include <atomic>
#include <cstring>

namespace mxrec {
namespace {

#ifndef MADV_COLLAPSE
constexpr int kMadvCollapse = 25;  // Linux 6.1
#else
constexpr int kMadvCollapse = MADV_COLLAPSE;
#endif

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
  if (huge) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

}  // namespace

void PromoteToHugePages(void* p, size_t bytes) {
  madvise(p, bytes, MADV_HUGEPAGE);
  madvise(p, bytes, kMadvCollapse);
}

void PageAllocator::FailAllocation(int64_t n) { fail_countdown = n; }

PageAllocator::~PageAllocator() {
  for (void* chunk : chunks_) munmap(chunk, kHugePage);
  for (auto& [p, bytes] : mappings_) munmap(p, bytes);
}

void* PageAllocator::Carve(size_t bytes, Chunk* chunk, bool huge) {
  if (chunk->used + bytes > kHugePage) {
    char* base = MapAligned(kHugePage, huge);
    if (base == nullptr) return nullptr;
    chunks_.push_back(base);
    *chunk = {base, 0};
  }
  void* p = chunk->base + chunk->used;
  chunk->used += bytes;
  return p;
}

void* PageAllocator::Allocate(size_t bytes, bool huge) {
  if (fail_countdown.load(std::memory_order_relaxed) >= 0 && fail_countdown.fetch_sub(1) == 0) {
    return nullptr;
  }
  bytes = RoundUp(bytes, kPieceAlignment);
  std::lock_guard lock(mu_);
  if (bytes >= kHugePage) {
    bytes = RoundUp(bytes, kHugePage);
    char* p = MapAligned(bytes, huge);
    if (p != nullptr) mappings_[p] = bytes;
    return p;
  }
  if (auto it = free_.find(bytes); it != free_.end() && !it->second.empty()) {
    void* p = it->second.back();
    it->second.pop_back();
    std::memset(p, 0, bytes);
    return p;
  }
  return Carve(bytes, huge ? &huge_chunk_ : &small_chunk_, huge);
}

void PageAllocator::Free(void* p, size_t bytes) {
  if (p == nullptr) return;
  bytes = RoundUp(bytes, kPieceAlignment);
  std::lock_guard lock(mu_);
  if (auto it = mappings_.find(p); it != mappings_.end()) {
    munmap(p, it->second);
    mappings_.erase(it);
    return;
  }
  free_[bytes].push_back(p);
}

}  // namespace mxrec
