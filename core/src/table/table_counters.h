// TableCounters: what a table has counted since its creation, for stats.
#pragma once

#include <atomic>
#include <cstdint>

namespace mxrec {

struct TableCounters {
  using Counter = std::atomic<int64_t>;

  Counter refused_by_capacity{0};
  Counter refused_by_admission{0};
  Counter admitted{0};
  Counter evicted_by_age{0};
  Counter evicted_by_rows{0};
  Counter evicted_by_l2{0};
  Counter skipped{0};  // gradients
  // Of lookups that leave no trace; shards count the others.
  Counter read_hits{0};
  Counter read_misses{0};
  Counter hot_hits{0};
};

}  // namespace mxrec
