// Included by table_state.h: its templates.
#pragma once

#include <atomic>
#include <new>

#include "table/table_state.h"
#include "util/worker_pool.h"

namespace mxrec {

// Below this many keys a batch is handled by the calling thread alone.
inline constexpr size_t kParallelKeys = 2048;

template <class Task>
bool TableState::ForEachShard(size_t batch_size, Task&& task) const {
  std::atomic<bool> ok{true};
  const auto guarded = [&](size_t s) {
    try {
      task(static_cast<uint32_t>(s));
    } catch (const std::bad_alloc&) {
      ok = false;
    }
  };
  if (batch_size < kParallelKeys) {
    for (size_t s = 0; s < shards_.size(); ++s) guarded(s);
  } else {
    WorkerPool::Get().Run(shards_.size(), guarded);
  }
  return ok;
}

}  // namespace mxrec
