// Draining: rows of sparse slabs move together, and whoever has an old address finds them.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "arena/row_arena.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

constexpr uint32_t kNone = RowArena::kNoSlot;
constexpr int kFloats = 64;  // 1,024 rows a slab
constexpr uint32_t kSlabRows = 1024;

struct Address {
  uint32_t slot;
  uint16_t generation;
  auto operator<=>(const Address&) const = default;
};

// An arena with what it must hold.
class Rows {
 public:
  explicit Rows(PageAllocator* pages) : arena(pages, kFloats) { arena.SetClock(1); }

  void Insert(int64_t n) {
    for (; n > 0; --n) {
      const uint32_t slot = arena.Allocate();
      ASSERT_NE(slot, kNone);
      ASSERT_FALSE(arena.InDrainingSlab(slot));
      const int64_t key = next_key_++;
      Fill(slot, key);
      live[key] = Of(slot);
      ASSERT_TRUE(ever.insert(Of(slot)).second) << "an address was given out twice";
    }
  }
  void Erase(int64_t key) {
    arena.Free(live.at(key).slot, key);
    live.erase(key);
  }
  // Leaves one row in `every`.
  void Thin(uint64_t every, std::mt19937_64* rng) {
    for (auto it = live.begin(); it != live.end();) {
      const int64_t key = it->first;
      ++it;
      if ((*rng)() % every != 0) Erase(key);
    }
  }
  // Moves up to `most` rows out of draining slabs; returns whether some are left.
  bool Drain(int64_t most) {
    for (auto& [key, address] : live) {
      if (!arena.InDrainingSlab(address.slot)) continue;
      if (most-- == 0) return true;
      const uint32_t to = arena.Move(address.slot, key);
      EXPECT_NE(to, kNone);
      EXPECT_FALSE(arena.InDrainingSlab(to));
      moved[address] = key;
      address = Of(to);
      EXPECT_TRUE(ever.insert(address).second) << "an address was given out twice";
    }
    return false;
  }
  void Check() const {
    for (const auto& [key, address] : live) {
      const RowMeta& meta = arena.Meta(address.slot);
      ASSERT_EQ(meta.generation, address.generation);
      ASSERT_EQ(meta.last_time, static_cast<uint32_t>(key) + 1);
      ASSERT_EQ(meta.frequency, static_cast<uint32_t>(key) + 2);
      ASSERT_EQ(meta.stamp, static_cast<uint16_t>(key + 3));
      const std::vector<float> row(kFloats, static_cast<float>(key));
      ASSERT_EQ(std::memcmp(arena.Row(address.slot), row.data(), sizeof(float) * kFloats), 0);
    }
    for (const auto& [address, key] : moved) {
      int64_t found = -1;
      ASSERT_NE(arena.Meta(address.slot).generation, address.generation);
      ASSERT_GT(arena.Generation(address.slot), address.generation);
      ASSERT_TRUE(arena.DepartedKey(address.slot, address.generation, &found));
      ASSERT_EQ(found, key);
      ASSERT_TRUE(arena.MovedKey(address.slot, address.generation, &found));
      ASSERT_EQ(found, key);
    }
  }
  Address Of(uint32_t slot) const { return {slot, arena.Meta(slot).generation}; }

  RowArena arena;
  std::map<int64_t, Address> live;
  std::map<Address, int64_t> moved;
  std::set<Address> ever;

 private:
  void Fill(uint32_t slot, int64_t key) {
    std::fill_n(arena.Row(slot), kFloats, static_cast<float>(key));
    RowMeta& meta = arena.Meta(slot);
    meta.last_time = static_cast<uint32_t>(key) + 1;
    meta.frequency = static_cast<uint32_t>(key) + 2;
    meta.stamp = static_cast<uint16_t>(key + 3);
  }
  int64_t next_key_ = 0;
};

TEST(RowArenaDrainTest, NothingIsMarkedWhereItWouldFreeLittle) {
  std::mt19937_64 rng(1);
  PageAllocator pages;
  Rows few(&pages);
  few.Insert(3 * kSlabRows);
  few.Thin(100, &rng);
  EXPECT_EQ(few.arena.BeginDrain(), 0);  // of three slabs
  EXPECT_FALSE(few.arena.draining());
  Rows dense(&pages);
  dense.Insert(20 * kSlabRows);
  dense.Thin(2, &rng);
  EXPECT_EQ(dense.arena.BeginDrain(), 0);  // every other row is left
}

TEST(RowArenaDrainTest, MovedRowsKeepContentsAndMetadataAndTheirSlabsGo) {
  for (const bool at_once : {true, false}) {
    SCOPED_TRACE(at_once);
    std::mt19937_64 rng(testing::TestSeed());
    MXREC_TRACE_SEED();
    PageAllocator pages;
    Rows rows(&pages);
    rows.Insert(40 * kSlabRows);
    const int64_t full = rows.arena.row_bytes();
    rows.Thin(10, &rng);
    rows.Check();
    const int64_t moves = rows.arena.BeginDrain();
    EXPECT_GT(moves, 0);
    EXPECT_TRUE(rows.arena.draining());
    EXPECT_FALSE(rows.Drain(1'000'000));
    EXPECT_EQ(rows.moved.size(), static_cast<size_t>(moves));
    rows.Check();
    if (at_once) {
      rows.arena.ReleaseIdle();
      rows.arena.EndDrain();
      EXPECT_LE(rows.arena.row_bytes(), full / 6);
    } else {
      rows.arena.EndDrain();
      for (uint32_t clock : {2u, 3u}) rows.arena.SetClock(clock);
      EXPECT_LE(rows.arena.row_bytes(), full / 4);  // more with later batches
      rows.arena.ReleaseIdle();
      EXPECT_LE(rows.arena.row_bytes(), full / 6);
    }
    EXPECT_FALSE(rows.arena.draining());
    rows.Check();
    // Slots of released slabs serve again, with generations of their own.
    for (uint32_t clock = 4; clock < 10; ++clock) {
      rows.arena.SetClock(clock);
      rows.Insert(6 * kSlabRows);
      rows.Check();
    }
  }
}

// A step may look a table up hundreds of times, and its gradients come last.
TEST(RowArenaDrainTest, MovesAreRememberedForManyBatchesAndNotForEver) {
  std::mt19937_64 rng(3);
  PageAllocator pages;
  Rows rows(&pages);
  rows.Insert(40 * kSlabRows);
  rows.Thin(10, &rng);
  const int64_t before = rows.arena.meta_bytes();
  rows.arena.BeginDrain();
  rows.Drain(1'000'000);
  rows.arena.EndDrain();
  for (uint32_t clock = 2; clock < RowArena::kMoveBatches; clock += 50) {
    rows.arena.SetClock(clock);
    rows.Check();
  }
  rows.arena.SetClock(RowArena::kMoveBatches + 1);
  for (const auto& [address, key] : rows.moved) {
    int64_t found;
    ASSERT_FALSE(rows.arena.DepartedKey(address.slot, address.generation, &found));
  }
  rows.moved.clear();
  rows.Check();
  EXPECT_LT(rows.arena.meta_bytes(), before / 4);
}

// A drain may end early, and another one release the slabs that the first one emptied.
TEST(RowArenaDrainTest, ASecondDrainForgetsNothing) {
  std::mt19937_64 rng(testing::TestSeed());
  MXREC_TRACE_SEED();
  PageAllocator pages;
  Rows rows(&pages);
  rows.Insert(40 * kSlabRows);
  rows.Thin(10, &rng);
  rows.arena.BeginDrain();
  EXPECT_TRUE(rows.Drain(2000));
  rows.arena.EndDrain();
  rows.Check();
  rows.Thin(20, &rng);
  rows.arena.BeginDrain();
  EXPECT_FALSE(rows.Drain(1'000'000));
  rows.arena.ReleaseIdle();
  rows.arena.EndDrain();
  rows.Check();
  // A slot from which rows moved twice leads to either.
  for (int round = 0; round < 3; ++round) {
    rows.Insert(40 * kSlabRows);
    rows.Thin(15, &rng);
    rows.arena.BeginDrain();
    EXPECT_FALSE(rows.Drain(1'000'000));
    rows.arena.ReleaseIdle();
    rows.arena.EndDrain();
    rows.Check();
  }
}

TEST(RowArenaDrainTest, NoMemoryToMoveIntoLeavesRowsWhereTheyAre) {
  std::mt19937_64 rng(5);
  PageAllocator pages;
  Rows rows(&pages);
  rows.Insert(40 * kSlabRows);
  rows.Thin(10, &rng);
  ASSERT_GT(rows.arena.BeginDrain(), 0);
  // Moved rows go to slots that are free: no memory is asked for.
  PageAllocator::FailAllocation(0);
  EXPECT_FALSE(rows.Drain(1'000'000));
  PageAllocator::FailAllocation(-1);
  rows.Check();
}

// Draining slabs give out no slot, whatever else happens meanwhile; random histories.
TEST(RowArenaDrainTest, RandomHistoriesKeepEveryPromise) {
  MXREC_TRACE_SEED();
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(testing::TestSeed() + seed);
    PageAllocator pages;
    Rows rows(&pages);
    for (uint32_t clock = 2; clock < 60 && !HasFatalFailure(); ++clock) {
      rows.arena.SetClock(clock);
      switch (rng() % 6) {
        case 0:
        case 1:
          rows.Insert(static_cast<int64_t>(rng() % (12 * kSlabRows)));
          break;
        case 2:
          rows.Thin(1 + rng() % 20, &rng);
          break;
        case 3:
          if (!rows.arena.draining()) rows.arena.BeginDrain();
          break;
        default:
          if (!rows.arena.draining()) break;
          if (!rows.Drain(static_cast<int64_t>(rng() % 3000))) {
            if (rng() % 2 == 0) rows.arena.ReleaseIdle();
            rows.arena.EndDrain();
          } else if (rng() % 4 == 0) {
            rows.arena.EndDrain();  // another trigger
          }
      }
      rows.Check();
    }
  }
}

}  // namespace
}  // namespace mxrec
