#include "arena/row_arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace mxrec {
namespace {

constexpr uint32_t kNone = RowArena::kNoSlot;

// Batches pass until nothing is left to give back; at most `most`.
void Pass(RowArena* arena, uint32_t clock, int most = 100) {
  for (; arena->has_idle_slabs() && most > 0; --most) arena->SetClock(clock++);
}

TEST(RowArenaTest, AFreedSlotRestsTwoBatchesAndKeepsItsKey) {
  PageAllocator pages;
  RowArena arena(&pages, 4);
  arena.SetClock(1);
  const uint32_t kept = arena.Allocate();
  const uint32_t slot = arena.Allocate();
  const uint16_t generation = arena.Meta(slot).generation;
  EXPECT_EQ(generation & 1, 1);
  arena.Free(slot, -77);
  for (uint32_t clock : {1u, 2u}) {
    arena.SetClock(clock);
    EXPECT_NE(arena.Allocate(), slot);
    int64_t key = 0;
    EXPECT_TRUE(arena.DepartedKey(slot, generation, &key));
    EXPECT_EQ(key, -77);
  }
  arena.SetClock(3);
  EXPECT_EQ(arena.Allocate(), slot);
  int64_t key = 0;
  EXPECT_FALSE(arena.DepartedKey(slot, generation, &key));
  EXPECT_GT(arena.Meta(slot).generation, generation);
  EXPECT_EQ(arena.Meta(kept).generation, 1);
}

TEST(RowArenaTest, IdleSlabsGiveTheirMemoryBackWhenTheyHaveRested) {
  PageAllocator pages;
  RowArena arena(&pages, 16);
  arena.SetClock(1);
  std::vector<uint32_t> slots(100000);
  for (uint32_t& slot : slots) slot = arena.Allocate();
  const int64_t full = arena.row_bytes();
  EXPECT_GE(full, 100000 * 64);
  for (uint32_t slot : slots) arena.Free(slot, slot);
  EXPECT_EQ(arena.row_bytes(), full);
  arena.SetClock(2);
  EXPECT_EQ(arena.row_bytes(), full);
  Pass(&arena, 3);
  EXPECT_EQ(arena.row_bytes(), 0);
  EXPECT_EQ(pages.held_bytes(), 0);
  for (uint32_t slot : slots) {
    EXPECT_EQ(arena.Meta(slot).generation & 1, 0);
    EXPECT_GT(arena.Generation(slot), 1);  // an address of generation 1 is a stale one
    int64_t key = 0;
    EXPECT_FALSE(arena.DepartedKey(slot, 1, &key));
  }
  // The same slots serve again, and old addresses stay stale.
  std::set<uint32_t> again;
  for (size_t i = 0; i < slots.size(); ++i) {
    const uint32_t slot = arena.Allocate();
    EXPECT_GT(arena.Meta(slot).generation, 1);
    EXPECT_EQ(arena.Meta(slot).generation & 1, 1);
    again.insert(slot);
  }
  EXPECT_EQ(again, std::set<uint32_t>(slots.begin(), slots.end()));
}

// Giving memory back takes time: rows that all go at once do not cost one batch all of it.
TEST(RowArenaTest, ABatchGivesABoundedNumberOfSlabsBack) {
  PageAllocator pages;
  RowArena arena(&pages, 16);
  arena.SetClock(1);
  const int64_t slab = int64_t{256} << 10;
  std::vector<uint32_t> slots(400'000);  // some 100 slabs
  for (uint32_t& slot : slots) slot = arena.Allocate();
  for (uint32_t slot : slots) arena.Free(slot, slot);
  int batches = 0;
  for (uint32_t clock = 3; arena.has_idle_slabs(); ++clock, ++batches) {
    const int64_t before = arena.row_bytes();
    arena.SetClock(clock);
    EXPECT_LE(before - arena.row_bytes(), 32 * slab);
    ASSERT_LT(arena.row_bytes(), before);
  }
  EXPECT_GE(batches, 3);
  EXPECT_EQ(pages.held_bytes(), 0);
}

TEST(RowArenaTest, LowSlotsAreUsedFirst) {
  PageAllocator pages;
  RowArena arena(&pages, 64);
  arena.SetClock(1);
  std::vector<uint32_t> slots(20000);
  for (uint32_t& slot : slots) slot = arena.Allocate();
  for (size_t i = 0; i < slots.size(); i += 2) arena.Free(slots[i], 1);
  arena.SetClock(3);
  for (size_t i = 0; i < 500; ++i) EXPECT_LT(arena.Allocate(), 1100u);
}

TEST(RowArenaTest, NoMemoryChangesNothing) {
  PageAllocator pages;
  RowArena arena(&pages, 64);
  PageAllocator::FailAllocation(0);
  EXPECT_EQ(arena.Allocate(), kNone);
  uint32_t last = 0;
  for (int i = 0; i < 5000; ++i) last = arena.Allocate();
  while (last % 1024 != 1023) last = arena.Allocate();
  PageAllocator::FailAllocation(0);
  EXPECT_EQ(arena.Allocate(), kNone);
  EXPECT_EQ(arena.Allocate(), last + 1);
}

// An address is a slot and a generation: it must name its row while the row is there, and nothing
// afterwards, whatever the slabs went through.
TEST(RowArenaTest, RandomHistoriesKeepTheGenerationsPromise) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    struct Gone {
      uint32_t slot;
      uint16_t generation;
      int64_t key;
      uint32_t clock;
    };
    PageAllocator pages;
    auto arena = std::make_unique<RowArena>(&pages, 1 + static_cast<int>(rng() % 600));
    std::map<uint32_t, std::pair<uint16_t, int64_t>> live;
    std::vector<Gone> gone;
    int64_t next_key = 0;
    for (uint32_t clock = 1; clock < 40; ++clock) {
      arena->SetClock(clock);
      for (uint64_t n = rng() % 3000; n > 0; --n) {
        const uint32_t slot = arena->Allocate();
        ASSERT_NE(slot, kNone);
        ASSERT_FALSE(live.contains(slot));
        live[slot] = {arena->Meta(slot).generation, next_key};
        std::memcpy(arena->Row(slot), &next_key, 4);
        ++next_key;
      }
      const bool all = rng() % 5 == 0;
      for (uint64_t n = all ? live.size() : rng() % 3000; n > 0 && !live.empty(); --n) {
        const auto it =
            all ? live.begin()
                : std::next(live.begin(),
                            static_cast<long>(rng() % std::min<size_t>(live.size(), 50)));
        gone.push_back({it->first, it->second.first, it->second.second, clock});
        arena->Free(it->first, it->second.second);
        live.erase(it);
      }
      if (rng() % 10 == 0) {
        auto wider = std::make_unique<RowArena>(&pages, 700);
        ASSERT_TRUE(arena->CopySlotsTo(wider.get(), 1));
        arena = std::move(wider);
      }
      for (const auto& [slot, row] : live) {
        ASSERT_EQ(arena->Meta(slot).generation, row.first);
        ASSERT_EQ(std::memcmp(arena->Row(slot), &row.second, 4), 0);
      }
      for (const Gone& g : gone) {
        ASSERT_NE(arena->Meta(g.slot).generation, g.generation);
        ASSERT_GT(arena->Generation(g.slot), g.generation);
        int64_t key = -1;
        const bool known = arena->DepartedKey(g.slot, g.generation, &key);
        if (clock < g.clock + RowArena::kRestingBatches) {
          ASSERT_TRUE(known);
        }
        if (known) {
          ASSERT_EQ(key, g.key);
        }
      }
    }
    for (const auto& [slot, row] : live) arena->Free(slot, row.second);
    Pass(arena.get(), 100);
    EXPECT_EQ(pages.held_bytes(), 0);
  }
}

TEST(RowArenaTest, AnEmptyArenaHoldsNothingAndAFewRowsLittle) {
  PageAllocator pages;
  RowArena arena(&pages, 32);
  EXPECT_EQ(arena.row_bytes(), 0);
  EXPECT_EQ(arena.slots(), 0u);
  arena.SetClock(1);
  arena.Allocate();
  EXPECT_EQ(arena.row_bytes(), 4096);
  EXPECT_LT(arena.meta_bytes(), 8192);
}

}  // namespace
}  // namespace mxrec
