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

  // Of a change, without the lock: only changes write what it looks at.
  bool HasIdleSlabs() const {
    mu.AssumeHeldShared();
    return arena->has_idle_slabs();
  }

  // Shared: find and read. Exclusive: insert, update, erase.
  mutable SharedMutex mu;
  KeyIndex index MXREC_GUARDED_BY(mu);
  std::unique_ptr<RowArena> arena MXREC_GUARDED_BY(mu);
  // Of keys without a row; null: no admission.
  std::unique_ptr<KeyCounters> counters MXREC_GUARDED_BY(mu);
  // Rows that a sweep leaves alone although their last use is before its cutoff: they were used
  // since it began.
  std::unordered_set<RowRef> reprieved MXREC_GUARDED_BY(mu);
  // Since creation.
  int64_t hits MXREC_GUARDED_BY(mu) = 0;
  int64_t misses MXREC_GUARDED_BY(mu) = 0;
  int64_t inserts MXREC_GUARDED_BY(mu) = 0;
  int64_t erased MXREC_GUARDED_BY(mu) = 0;
};

}  // namespace mxrec
