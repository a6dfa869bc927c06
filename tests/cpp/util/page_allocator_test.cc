#include "util/page_allocator.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

namespace mxrec {
namespace {

constexpr size_t kPiece = size_t{64} << 10;

// Whether all pages of [p, p + bytes) are in memory.
bool Resident(void* p, size_t bytes) {
  std::vector<unsigned char> pages(bytes / kSmallPage);
  EXPECT_EQ(mincore(p, bytes, pages.data()), 0);
  return std::all_of(pages.begin(), pages.end(), [](unsigned char c) { return (c & 1) != 0; });
}

bool IsZero(const char* p, size_t bytes) {
  return p[0] == 0 && std::memcmp(p, p + 1, bytes - 1) == 0;
}

TEST(PageAllocatorTest, SmallPiecesAreGivenBackOneByOne) {
  PageAllocator pages;
  char* kept = static_cast<char*>(pages.Allocate(kPiece, false));
  char* p = static_cast<char*>(pages.Allocate(kPiece, false));
  EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(2 * kPiece));
  std::memset(kept, 1, kPiece);
  std::memset(p, 1, kPiece);
  EXPECT_TRUE(Resident(p, kPiece));
  pages.Free(p, kPiece);
  EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(kPiece));
  EXPECT_FALSE(Resident(p, kPiece));
  EXPECT_EQ(pages.Allocate(kPiece, false), p);  // the lowest free piece
  EXPECT_TRUE(IsZero(p, kPiece));
  EXPECT_EQ(kept[kPiece - 1], 1);
  pages.Free(p, kPiece);
  pages.Free(kept, kPiece);
  EXPECT_EQ(pages.held_bytes(), 0);
}

TEST(PageAllocatorTest, AHugePageGoesBackWithItsLastPiece) {
  PageAllocator pages;
  constexpr size_t kPerPage = kHugePage / kPiece;
  std::vector<char*> pieces;
  for (size_t i = 0; i < 3 * kPerPage; ++i) {
    pieces.push_back(static_cast<char*>(pages.Allocate(kPiece, true)));
    std::memset(pieces.back(), 1, kPiece);
  }
  EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(3 * kHugePage));
  for (size_t i = kPerPage; i < 2 * kPerPage; ++i) {
    EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(3 * kHugePage));
    pages.Free(pieces[i], kPiece);
  }
  EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(2 * kHugePage));
  EXPECT_FALSE(Resident(pieces[kPerPage], kSmallPage));
  EXPECT_TRUE(Resident(pieces[0], kPiece));
  for (size_t i = kPerPage; i < 2 * kPerPage; ++i) {
    EXPECT_EQ(pages.Allocate(kPiece, true), pieces[i]);
    EXPECT_TRUE(IsZero(pieces[i], kPiece));
  }
}

TEST(PageAllocatorTest, PiecesMoveIntoLowerGaps) {
  PageAllocator pages;
  char* low = static_cast<char*>(pages.Allocate(kPiece, true));
  char* other = static_cast<char*>(pages.Allocate(2 * kPiece, true));
  char* high = static_cast<char*>(pages.Allocate(kPiece, true));
  std::memset(high, 7, kPiece);
  EXPECT_EQ(pages.MoveLower(high, kPiece), high);
  pages.Free(other, 2 * kPiece);
  EXPECT_EQ(pages.MoveLower(high, kPiece), high);  // of another size
  pages.Free(low, kPiece);
  EXPECT_EQ(pages.MoveLower(high, kPiece), low);
  EXPECT_EQ(low[kPiece - 1], 7);
  EXPECT_EQ(pages.Allocate(kPiece, true), high);
  EXPECT_TRUE(IsZero(high, kPiece));
}

TEST(PageAllocatorTest, LargePiecesHaveRegionsOfTheirOwn) {
  PageAllocator pages;
  const size_t bytes = 24 * kHugePage + 5;
  char* p = static_cast<char*>(pages.Allocate(bytes, true));
  ASSERT_NE(p, nullptr);
  p[bytes - 1] = 1;
  EXPECT_EQ(pages.held_bytes(), static_cast<int64_t>(25 * kHugePage));
  pages.Free(p, bytes);
  EXPECT_EQ(pages.held_bytes(), 0);
}

TEST(PageAllocatorTest, AFailedAllocationIsNull) {
  PageAllocator pages;
  PageAllocator::FailAllocation(1);
  void* p = pages.Allocate(kPiece, true);
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(pages.Allocate(kPiece, true), nullptr);
  EXPECT_NE(pages.Allocate(kPiece, true), nullptr);
  EXPECT_EQ(pages.Allocate(size_t{1} << 60, true), nullptr);  // the system has not so much
}

// Pieces never overlap, keep what was written, and start as zero where that was asked for.
TEST(PageAllocatorTest, RandomPiecesKeepTheirContents) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    struct Piece {
      size_t bytes;
      char mark;
    };
    PageAllocator pages;
    std::map<char*, Piece> live;
    const size_t sizes[] = {kPiece, 5 * kSmallPage, 300 << 10, kHugePage, kHugePage + 1, 100};
    for (int i = 0; i < 600; ++i) {
      // Grows first, shrinks then.
      if (live.empty() || static_cast<int>(rng() % 600) > i) {
        const size_t bytes = sizes[rng() % std::size(sizes)];
        const bool zero = rng() % 2 == 0;
        char* p = static_cast<char*>(
            pages.Allocate(bytes, rng() % 4 != 0,
                           zero ? PageAllocator::Contents::kZero : PageAllocator::Contents::kAny));
        ASSERT_NE(p, nullptr);
        if (zero) {
          ASSERT_TRUE(IsZero(p, bytes));
        }
        const auto next = live.lower_bound(p);
        if (next != live.end()) {
          ASSERT_LE(p + bytes, next->first);
        }
        if (next != live.begin()) {
          ASSERT_LE(std::prev(next)->first + std::prev(next)->second.bytes, p);
        }
        const char mark = static_cast<char>(rng() | 1);
        std::memset(p, mark, bytes);
        live[p] = {bytes, mark};
      } else {
        auto it = std::next(live.begin(), static_cast<long>(rng() % live.size()));
        const auto [p, piece] = *it;
        ASSERT_EQ(p[0], piece.mark);
        ASSERT_EQ(std::memcmp(p, p + 1, piece.bytes - 1), 0);
        pages.Free(p, piece.bytes);
        live.erase(it);
      }
    }
    for (const auto& [p, piece] : live) pages.Free(p, piece.bytes);
    EXPECT_EQ(pages.held_bytes(), 0);
  }
}

}  // namespace
}  // namespace mxrec
