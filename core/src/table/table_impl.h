// What a Table has, and how its calls take its locks. Included by the files that define Table.
#pragma once

#include <unistd.h>

#include <atomic>
#include <limits>
#include <memory>
#include <new>
#include <shared_mutex>
#include <string>

#include "env/env.h"
#include "mxrec/table.h"
#include "table/snapshot_gate.h"
#include "table/table_state.h"
#include "table/tier_workers.h"

namespace mxrec {

inline constexpr size_t kMaxBatch = size_t{1} << 31;

inline uint32_t NowSeconds() {
  return static_cast<uint32_t>(Env::Default()->NowMicros() / 1'000'000);
}

struct Table::Impl {
  // Shared: use `state`. Exclusive: replace or release it.
  mutable SharedMutex structure{kStructureRank};
  TableOptions options MXREC_GUARDED_BY(structure);
  std::unique_ptr<TableState> state MXREC_GUARDED_BY(structure);  // null: closed
  // Exclusive: a batch changes rows; one at a time, each on all threads. Shared: an export keeps
  // changes out, so that it sees the rows and the step between two batches.
  mutable SharedMutex changes{kChangesRank};
  std::atomic<int64_t> step{0};
  std::atomic<int64_t> step_before{0};  // step that the table would have had at its creation
  std::atomic<uint64_t> version{0};
  // While there is a snapshot, `state` is not replaced.
  SnapshotGate snapshot;
  std::atomic<int64_t> image_limit{std::numeric_limits<int64_t>::max()};  // of the running snapshot
  // Of a table with an SSD tier: the process that made it. A forked one has none of its threads and
  // shares its files; it leaves all of them, and the locks, which a thread may have held, alone.
  pid_t made_by = 0;  // 0: any may use it
  bool forked() const { return made_by != 0 && made_by != ::getpid(); }
  // Of a table with an SSD tier; their threads take the locks above. Last: they end first.
  std::unique_ptr<TierWorkers> workers;

  // What they do: have rows leave memory until enough of it is free, and read rows ahead
  // (table_tiers.cc).
  void SpillAhead();
  void StageAhead(const std::vector<int64_t>& keys) const;
  void ReadAhead(KeySpan keys) const;  // has them do so
};

// The analysis does not follow them into it: who is given a ReadLock assumes them held.
struct Table::ReadLock::Impl {
  std::shared_lock<SharedMutex> structure;
  std::shared_lock<SharedMutex> changes;
};

inline Status CheckMaxRows(int64_t max_rows) {
  if (max_rows >= 1) return {};
  return InvalidArgument("max_rows is " + std::to_string(max_rows) + "; it must be at least 1");
}

inline Status Closed(const std::string& name) {
  return FailedPrecondition("table '" + name + "' is closed; create or load it again");
}

// Comes before the locks.
inline Status CheckProcess(const std::string& name, const Table::Impl& impl) {
  if (!impl.forked()) [[likely]]
    return {};
  return FailedPrecondition("table '" + name + "' has an SSD tier and belongs to process " +
                            std::to_string(impl.made_by) + ", from which process " +
                            std::to_string(::getpid()) +
                            " was forked: the files and threads are not its own. Make or load "
                            "the table after the fork, or start processes by spawn");
}

// Runs one call on an open table under the structure lock; memory that runs out outside the
// shards becomes a Status.
template <class Impl, class Call>
Status WithState(const std::string& name, Impl& impl, size_t batch, Call&& call) {
  if (batch > kMaxBatch) {
    return InvalidArgument("keys has " + std::to_string(batch) + " elements; at most " +
                           std::to_string(kMaxBatch) + " in one call");
  }
  MXREC_RETURN_IF_ERROR(CheckProcess(name, impl));
  const SharedLock lock(impl.structure);
  if (impl.state == nullptr) return Closed(name);
  try {
    return call(*impl.state);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory in a call on table '" + name + "' with " +
                             std::to_string(batch) + " keys; the table is as it was");
  }
}

// The structure lock of a call that replaces or rebuilds the state: while there is no snapshot.
// After CheckProcess.
class MXREC_SCOPED_CAPABILITY StructureLock {
 public:
  template <class Impl>
  explicit StructureLock(Impl& impl) MXREC_ACQUIRE(impl.structure) : mu_(impl.structure) {
    for (;;) {
      impl.snapshot.WaitForNone();
      mu_.lock();
      if (!impl.snapshot.open()) return;
      mu_.unlock();
    }
  }
  ~StructureLock() MXREC_RELEASE() {
    if (held_) mu_.unlock();
  }
  StructureLock(const StructureLock&) = delete;
  StructureLock& operator=(const StructureLock&) = delete;

  void unlock() MXREC_RELEASE() {
    held_ = false;
    mu_.unlock();
  }

 private:
  SharedMutex& mu_;
  bool held_ = true;
};

// Behind a call that may have brought rows into memory.
template <class Impl>
Status AndSpill(Impl& impl, const TableState& state, Status status) {
  if (state.WantsSpill()) impl.workers->Spill();
  return status;
}

// The same for a call that changes rows. One that may leave more images than a snapshot is to hold
// waits for its reader first.
template <class Impl, class Call>
Status WithChange(const std::string& name, Impl& impl, size_t batch, Call&& call) {
  for (;;) {
    const uint64_t progress = impl.snapshot.progress();
    bool full = false;
    Status status = WithState(name, impl, batch, [&](TableState& state) {
      full = state.tracker().image_bytes() > impl.image_limit;
      if (full) [[unlikely]]
        return Status();
      const ExclusiveLock lock(impl.changes);
      return AndSpill(impl, state, call(state));
    });
    if (!full) [[likely]]
      return status;
    impl.snapshot.WaitForProgress(progress);  // without a lock that the reader may want
  }
}

// A call that reads rows by key. While a sweep is under way, what is too old goes first.
template <class Impl, class Call>
Status WithKeys(const std::string& name, Impl& impl, KeySpan keys, Call&& call) {
  return WithState(name, impl, keys.size(), [&](TableState& state) {
    if (state.sweeping() && !state.ExpiredOf(keys).empty()) {
      const ExclusiveLock lock(impl.changes);
      state.Reap(keys);
    }
    return call(state);
  });
}

// One that reads rows in memory alone: those on SSD come, and changes, which could have them leave
// again, wait until it is done.
template <class Impl, class Call>
Status WithKeysInMemory(const std::string& name, Impl& impl, KeySpan keys, Call&& call) {
  return WithKeys(name, impl, keys, [&](TableState& state) -> Status {
    if (!state.tiered()) [[likely]]
      return call(state);
    const ExclusiveLock lock(impl.changes);
    MXREC_RETURN_IF_ERROR(state.BringIn(keys));
    return AndSpill(impl, state, call(state));
  });
}

// The same for one that changes rows.
template <class Impl, class Call>
Status WithKeyChange(const std::string& name, Impl& impl, KeySpan keys, Call&& call) {
  return WithChange(name, impl, keys.size(), [&](TableState& state) -> Status {
    if (state.sweeping()) state.Reap(keys);
    MXREC_RETURN_IF_ERROR(state.BringIn(keys));
    return call(state);
  });
}

}  // namespace mxrec
