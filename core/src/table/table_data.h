// TableData: what a TableState consists of; nothing but data, with which all of its files work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "batch/prepared_batches.h"
#include "initializers/row_initializer.h"
#include "optimizers/optimizer.h"
#include "table/change_tracker.h"
#include "table/eviction_sweep.h"
#include "table/hot_rows.h"
#include "table/hot_sampler.h"
#include "table/read_pipeline.h"
#include "table/row_format.h"
#include "table/shard.h"
#include "table/spilled_lap.h"
#include "table/table_counters.h"
#include "tier/ssd_tier.h"
#include "util/page_allocator.h"

namespace mxrec {

struct TableData {
  // options: validated, num_shards resolved.
  TableData(const TableOptions& options, uint32_t tag);

  std::string name_;
  int dim_;
  RowFormat format_;
  int slots_;
  int shard_bits_;
  int64_t capacity_;
  uint32_t tag_;
  std::unordered_set<int64_t> padding_;
  std::unique_ptr<RowInitializer> initializer_;
  std::unique_ptr<Optimizer> optimizer_;
  // Apart, so that either's memory goes back when the other's stays.
  PageAllocator index_pages_;
  PageAllocator row_pages_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::atomic<int64_t> rows_{0};
  // Batches that trained, inserted or erased, modulo 2^32; changed by the one change at a time.
  uint32_t batches_ = 0;
  // Who may have an address of a row that leaves memory; changed by the one change at a time.
  uint32_t steps_ = 0;                // AddressTrail::Time::steps
  bool applied_ = false;              // gradients have come by address since the last lookup
  std::optional<uint32_t> given_at_;  // batches_ when a lookup gave addresses last
  // Admission; changed by the one change at a time.
  AdmissionOptions admission_;
  std::atomic<int64_t> threshold_{kNeverAdmit};  // in force
  std::atomic<bool> frozen_{false};
  // Eviction; changed by the one change at a time, the sweep's rules under all shards' locks.
  std::atomic<uint32_t> latest_time_{0};
  std::atomic<TimeSource> time_source_{TimeSource::kNone};
  std::atomic<bool> sweeping_{false};
  EvictionSweep sweep_;
  // Copies and guesses only: a read leaves the table as it is.
  mutable TableCounters counters_;
  mutable HotRows hot_;
  mutable HotSampler sampler_;
  mutable PreparedBatches prepared_;
  ChangeTracker tracker_;
  std::unique_ptr<SsdTier> tier_;  // null: all rows are in memory
  bool snapshot_read_ = true;      // the running save has seen all rows
  SpilledLap spilled_lap_;         // of the running save
  // Scratch of UpdateDistinct; one change at a time: a bit a slot of all shards, zero between
  // calls.
  std::vector<uint64_t> marks_;
  std::atomic<int64_t> marks_bytes_{0};
  // Scratch of ReadOrInsert; one change at a time.
  std::vector<UsedRows> used_;                       // by range of the batch
  std::vector<std::vector<HotRows::Use>> hot_used_;  // by shard
};

}  // namespace mxrec
