// SsdTier: what a table has beside its memory tier: the log with the spilled rows' values, the rows
// staged from it, and per shard the index of spilled rows, the hand that looks for cold ones and
// the trail of those that have left.
//
// A key's row is either in memory (Shard::index, Shard::arena) or spilled (SpilledRows and the
// log), never both, and a spilled row never changes: it is brought into memory first. A row moves
// with everything that belongs to it; nobody but these files can tell where it is.
//
// Guarded: a TierShard as it says; `threshold`, `next_shard` and the norms as the table's change.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/table_types.h"
#include "ssd/ssd_log.h"
#include "tier/address_trail.h"
#include "tier/clock_hand.h"
#include "tier/spilled_rows.h"
#include "tier/staged_rows.h"
#include "util/mutex.h"
#include "util/page_allocator.h"
#include "util/shared_mutex.h"

namespace mxrec {

// Of a record in the log: the index has it.
inline constexpr uint32_t kSpilledMetadataBytes = 0;

struct TierShard {
  TierShard(SharedMutex* lock, PageAllocator* pages, int shard_bits)
      : mu(lock), spilled(pages, shard_bits) {}

  SharedMutex* const mu;  // the shard's
  SpilledRows spilled MXREC_GUARDED_BY(mu);
  ClockHand hand;  // as the table's changes; what bytes() depends on changes under the lock
  AddressTrail trail MXREC_GUARDED_BY(mu);
};

class SsdTier final : public ssd::LogOwner {
 public:
  // options: validated, with ssd_rows > 0. locks: of the shards, which outlive the tier.
  static Result<std::unique_ptr<SsdTier>> Open(const TableOptions& options, size_t row_bytes,
                                               const std::vector<SharedMutex*>& locks);
  ~SsdTier() override;

  TierShard& shard(uint32_t s) { return *shards_[s]; }
  const TierShard& shard(uint32_t s) const { return *shards_[s]; }
  ssd::SsdLog& log() { return *log_; }
  StagedRows& staged() { return *staged_; }
  // Rows of all shards. Changed under the lock of the shard whose rows come or go, and behind
  // `moves`: who has missed a row in memory and sees none here either sees why in `moves`.
  int64_t rows() const { return rows_.load(std::memory_order_acquire); }
  void AddRows(int64_t more) { rows_.fetch_add(more, std::memory_order_acq_rel); }
  int64_t capacity() const { return capacity_; }
  // Rows that memory is meant to hold, and how many of them are kept free for rows to come.
  int64_t memory_rows() const { return memory_rows_; }
  int64_t reserve() const { return memory_rows_ / 16; }

  // Reads rows; errors name the table. row_bytes each.
  Status Read(const ssd::SsdLog::Guard& guard, std::span<ssd::RecordOut> records);

  // An error that no call returns: stats have it.
  void NoteError(const Status& error);

  void Moved(std::span<const ssd::Move> moves, bool* taken) override;

  // An empty log for rows of another size, to be given to Adopt. The caller holds a guard of it
  // until the index has its locations, which it gets after Adopt: the old log is closed then.
  Result<std::unique_ptr<ssd::SsdLog>> NewLog(size_t row_bytes);
  void Adopt(std::unique_ptr<ssd::SsdLog> log);  // may throw; then nothing has happened

  void AddStats(TierStats* stats) const;  // takes the shards' locks
  void InheritCounters(const TierStats& previous);

  // Of cold rows: see ClockHand. Adapted so that about one row in eight counts as cold.
  uint32_t threshold = 1;
  uint32_t next_shard = 0;
  // Of sweeps by norm. Rows on SSD that are marked as large have norms of at least known_norm;
  // those that are marked from now on, of marked_norm, which is not less.
  float known_norm = 0.0f;
  float marked_norm = 0.0f;  // 0: no row is marked
  // The batch that the table is at, for those who announce later ones.
  std::atomic<uint32_t> batch{0};
  // Rises with every row that comes into memory or leaves it, under its shard's lock.
  std::atomic<uint64_t> moves{0};
  // For stats.
  std::atomic<int64_t> promoted{0};
  std::atomic<int64_t> promoted_staged{0};
  std::atomic<int64_t> spilled{0};
  std::atomic<int64_t> read_in_place{0};

 private:
  SsdTier(const TableOptions& options, const std::vector<SharedMutex*>& locks);

  const TableOptions options_;
  const int shard_bits_;
  const int64_t memory_rows_;
  const int64_t capacity_;
  PageAllocator pages_;
  std::vector<std::unique_ptr<TierShard>> shards_;
  std::atomic<int64_t> rows_{0};
  std::unique_ptr<StagedRows> staged_;
  std::atomic<int64_t> read_errors_{0};
  mutable Mutex error_mu_;
  mutable std::string error_ MXREC_GUARDED_BY(error_mu_);
  std::unique_ptr<ssd::SsdLog> log_;
};

}  // namespace mxrec
