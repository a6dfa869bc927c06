// Shard: the part of a table that one lock guards: an index and an arena.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_set>

#include "admission/key_counters.h"
#include "arena/row_arena.h"
#include "index/key_index.h"
#include "util/shared_mutex.h"

namespace mxrec {

struct alignas(kCacheLine) Shard {
  Shard(uint32_t number, PageAllocator* index_pages, PageAllocator* row_pages, int shard_bits,
        int row_floats)
      : mu(kFirstShardRank + number),
        index(index_pages, shard_bits),
        arena(std::make_unique<RowArena>(row_pages, row_floats)) {}

  // Shared: find and read. Exclusive: insert, update, erase.
  mutable SharedMutex mu;
  KeyIndex index;                   // guarded by mu
  std::unique_ptr<RowArena> arena;  // guarded by mu
  // Of keys without a row; null: no admission. Guarded by mu.
  std::unique_ptr<KeyCounters> counters;
  // Rows that a sweep leaves alone although their last use is before its cutoff: they were used
  // since it began. Guarded by mu.
  std::unordered_set<RowRef> reprieved;
  // Since creation; guarded by mu, exclusively.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t inserts = 0;
  int64_t erased = 0;
};

}  // namespace mxrec
