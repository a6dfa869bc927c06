// PageAllocator: zeroed memory from the operating system for index segments and row slabs.
//
// Huge pages are asked for where a table is large enough to profit (`huge`): a small table then
// costs the 4 KiB pages that it touches, not 2 MiB per piece.
//
// Thread-safe. Never throws: null means that the system gave no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace mxrec {

inline constexpr size_t kHugePage = size_t{2} << 20;
inline constexpr size_t kPieceAlignment = size_t{64} << 10;

class PageAllocator {
 public:
  PageAllocator() = default;
  ~PageAllocator();
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  void* Allocate(size_t bytes, bool huge);
  // `bytes` as it was allocated. Pieces of at least a huge page go back to the system at once.
  void Free(void* p, size_t bytes);

  // For tests: the n-th allocation from now fails, in this process; -1: none.
  static void FailAllocation(int64_t n);

 private:
  struct Chunk {
    char* base = nullptr;
    size_t used = kHugePage;
  };
  void* Carve(size_t bytes, Chunk* chunk, bool huge);

  std::mutex mu_;
  Chunk small_chunk_, huge_chunk_;             // guarded by mu_
  std::vector<void*> chunks_;                  // guarded by mu_
  std::map<size_t, std::vector<void*>> free_;  // by size; guarded by mu_
  std::map<void*, size_t> mappings_;           // of at least a huge page; guarded by mu_
};

// Asks for huge pages under memory that was mapped without. Best effort: only speed depends on it.
void PromoteToHugePages(void* p, size_t bytes);

}  // namespace mxrec
