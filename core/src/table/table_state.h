// TableState: the shards of one incarnation of a table's rows. Table adds what outlives an
// incarnation (name, options, the lock that lets one replace another).
//
// Thread safety: every method may run concurrently with every other.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "batch/key_batch.h"
#include "mxrec/table.h"
#include "table/insert_request.h"
#include "table/tiered_rows.h"
#include "util/worker_pool.h"

namespace mxrec {

class TableState : private TieredRows {
 public:
  // options: validated, num_shards resolved.
  static Result<std::unique_ptr<TableState>> Create(const TableOptions& options);
  ~TableState();

  using TieredRows::rows;
  using TieredRows::shards;
  int64_t capacity() const { return capacity_; }
  void SetCapacity(int64_t capacity) { capacity_ = capacity; }  // not below rows()
  int dim() const { return dim_; }
  // Of a row in a RowBlock; in memory it is format().stored_floats.
  int row_floats() const { return dim_ * (1 + slots_); }
  const RowFormat& format() const { return format_; }
  int shard_bits() const { return shard_bits_; }

  // --- Tiers (tiered_rows.h). What changes rows, and what is said to read rows in memory, comes
  // after BringIn of its keys, within one change.
  using TieredRows::BringIn;
  using TieredRows::BringInAddresses;
  using TieredRows::Reserve;
  using TieredRows::SpillSome;
  using TieredRows::Stage;
  using TieredRows::WantsMoreRoom;
  using TieredRows::WantsSpill;
  bool tiered() const { return tier_ != nullptr; }

  // --- By key (table_state_read.cc). Fail where a row on SSD cannot be read.
  Status Read(KeySpan keys, const float* absent_row, float* out) const;
  Status ReadAddresses(std::span<const int64_t> addresses, KeySpan keys, const float* absent_row,
                       float* out) const;
  void Contains(KeySpan keys, bool* out) const;
  // Those for which a training lookup would make a row.
  void Missing(KeySpan keys, uint64_t coefficient, std::vector<int64_t>* out) const;
  void Find(KeyBatch* batch) const;  // fills batch->address; rows in memory
  // One row per bag (table_state_pooled.cc), from rows in memory. Bags are valid.
  void ReadPooled(KeySpan keys, const Bags& bags, const float* absent_row, float* out) const;
  void ReadAddressesPooled(std::span<const int64_t> addresses, KeySpan keys, const int32_t* inverse,
                           const Bags& bags, const float* absent_row, float* out) const;

  // --- Admission (table_state_admission.cc). There is one change at a time.
  // All or nothing: counters for every shard.
  Status ConfigureAdmission(const AdmissionOptions& admission);
  const AdmissionOptions& admission() const { return admission_; }
  // Of a table with admission. 0: freezes.
  void SetThreshold(int64_t threshold);
  AdmissionState admission_state() const;
  void SetAdmissionState(const AdmissionState& state);
  bool frozen() const { return frozen_; }
  bool admits_none() const { return admission_.on() && threshold_ == kNeverAdmit; }
  void Counts(KeySpan keys, int64_t* out) const;
  // Export of the counts of keys without a row; as Scan.
  void ScanCounts(ScanCursor* cursor, int64_t max_rows, RowBlock* block) const;
  // replaces: of a delta.
  Status LoadCounts(const RowBlock& block, bool replaces);

  // --- Eviction (table_state_evict.cc). There is one change at a time, but for readers.
  // The latest training use; 0: none.
  uint32_t latest_time() const { return latest_time_; }
  TimeSource time_source() const { return time_source_; }
  // Checks the times of a use against those before, and takes them down when it has happened.
  Status CheckTimes(TimeSource source, bool by_age) const;
  void NoteTimes(TimeSource source, uint32_t latest);
  // Fixes what is to go at `now`, for every caller at once.
  void BeginSweep(const EvictionOptions& rules, int64_t now);
  bool sweeping() const { return sweeping_.load(std::memory_order_acquire); }
  // Frees rows and moves others together: looks at about `looks` entries, frees at most `most`.
  // at_once: memory is not kept for rows that rest. Returns the rows freed.
  int64_t Sweep(int64_t looks, int64_t most, bool at_once);
  // While sweeping: removes those of the keys that are too old, so that nothing else needs to know.
  std::vector<int64_t> ExpiredOf(KeySpan keys) const;
  void Reap(KeySpan keys);
  // While sweeping, after a use: rows that are older than the cutoff although they are in use.
  // earliest: of the use's times.
  void Reprieve(KeySpan keys, uint32_t earliest);
  // While sweeping: frees what is to go until the keys of a batch find room, or all of it. Returns
  // whether it had to.
  bool MakeRoom(KeySpan keys);
  // While sweeping: addresses with kNoAddress in the place of those whose rows are too old. Nothing
  // expired: an empty vector. *first: the first such position.
  std::vector<int64_t> MaskExpired(std::span<const int64_t> addresses, size_t* first) const;
  // Rows that are too old and not yet removed.
  int64_t CountExpired() const;

  // --- Changes (table_state_write.cc). The batch is partitioned by the caller, who sees to it that
  // there is one change at a time; readers may run meanwhile.
  // All or nothing. Fills batch->address and batch->fresh.
  Status Insert(KeyBatch* batch, const InsertRequest& request);
  // Gives every key a row with its embedding (values: [n, dim], by batch position); the last of
  // duplicates wins. The batch need not be deduplicated. All or nothing (table_state_assign.cc).
  Status Assign(KeyBatch* batch, const float* values, Existing existing);
  int64_t Erase(KeyBatch* batch);
  // Reads the rows of a batch, makes the missing ones and counts the uses: by occurrence, without
  // deduplicating what is there already (table_state_train.cc). All or nothing.
  Status ReadOrInsert(KeySpan keys, const InsertRequest& use, float* out);
  // Finds or makes the rows of a batch's distinct keys (table_state_resolve.cc). `allocate` is
  // asked before anything changes.
  Status Resolve(KeySpan keys, ResolveMode mode, InsertRequest use, int32_t* inverse,
                 const UniqueAllocator& allocate);

  // Does ahead what Resolve(keys, kInsert) would do and what changes nothing
  // (table_state_prepare.cc). *missing: the distinct keys without a row in memory; null: not
  // wanted. Any number of calls may run beside a change.
  void Prepare(KeySpan keys, std::vector<int64_t>* missing) const;

  // --- Updates (table_state_update.cc): one step of the optimizer, which is there. There is one
  // change at a time. `step` is advanced, unless the call fails. grads: [n, dim].
  Status ApplyToKeys(KeySpan keys, const float* grads, float learning_rate,
                     std::atomic<int64_t>* step, ApplyResult* result);
  Status ApplyToAddresses(std::span<const int64_t> addresses, const float* grads,
                          float learning_rate, StaleAddress policy, std::atomic<int64_t>* step,
                          ApplyResult* result);
  // The part of ApplyToAddresses for finite gradients of current addresses, each another one or
  // padding (table_state_update_distinct.cc). False: something else is in the batch; nothing has
  // changed.
  bool UpdateDistinct(std::span<const int64_t> addresses, const float* grads, float learning_rate,
                      std::atomic<int64_t>* step, ApplyResult* result);

  // --- Export and restore (table_state_export.cc).
  Status Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block, bool locked) const;
  // replaces: of a delta; a key twice since BeginLink is still kDataLoss.
  Status Load(const RowBlock& block, int block_row_floats, bool replaces = false);
  // Of a state that no table has yet (table_state_put.cc); as RowLoader::Put.
  Status Put(const RowBlock& block, int block_row_floats, RowLoader::Slots slots,
             RowLoader::Present present);
  // Makes room for another optimizer's slots behind every embedding. Addresses stay valid.
  Status Relayout(const OptimizerOptions& optimizer);

  // --- One instant, read while changes go on (table_state_snapshot.cc). Begin and end are changes.
  // May throw; then nothing has happened.
  void BeginSnapshot(const ChangeTracker::Instant& instant);
  Status LinkSegments(const LinkSegment& link, std::vector<SnapshotSegment>* segments);
  // Replaces *block by the next rows of the instant, about `max_rows`; empty: there are no more.
  Status ScanSnapshot(ScanCursor* cursor, size_t max_rows, int64_t image_bytes, RowBlock* block);
  void ScanSnapshotCounts(ScanCursor* cursor, size_t max_rows, RowBlock* block);
  // Distinct keys that went between the version that the save builds on and the instant.
  std::vector<int64_t> GoneKeys() const;
  // saved: uid of the version written; empty: it was given up.
  ChangeTracker::Remains EndSnapshot(const std::string& saved, int64_t step);
  // The rows are those of version `uid` (empty: of none), on which the next delta can build.
  void SetLineage(const std::string& uid, int64_t step, bool counts_recent);
  const ChangeTracker& tracker() const { return tracker_; }
  bool counts_lost() const;

  // The next version of a chain, on top of the rows that are there: keys that have gone, then rows,
  // of which there may be one already.
  void BeginLink();
  Status EraseKeys(const std::vector<int64_t>& keys);

  // Replaces the optimizer by one of the same kind: other hyperparameters, the same slots.
  void Reconfigure(const OptimizerOptions& optimizer);

  void AddStats(TableStats* stats) const;
  // Takes over the counters of the state that this one replaces.
  void InheritCounters(const TableState& previous);
  // Initial values of the slots of the bound optimizer; null: none.
  const Optimizer* optimizer() const { return optimizer_.get(); }
  bool IsPadding(int64_t key) const { return padding_.contains(key); }
  bool has_padding() const { return !padding_.empty(); }

 private:
  using TieredRows::TieredRows;

  void FindInShard(const Shard& shard, KeyBatch* batch, uint32_t s) const
      MXREC_REQUIRES_SHARED(shard.mu);
  bool InsertInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request)
      MXREC_REQUIRES(ShardAt(s).mu);
  // Admission.
  static constexpr uint64_t kAdmitAll = ~uint64_t{0};
  static constexpr uint64_t kAdmitNone = 0;
  bool Admits(uint32_t seen, uint32_t occurrences, uint64_t coefficient) const {
    const uint64_t more = frozen_ ? 0 : occurrences * coefficient;
    return static_cast<int64_t>(AddSaturating(seen, more)) >= threshold_;
  }
  bool WouldAdmit(const Shard& shard, const KeyBatch& batch, size_t u, uint64_t coefficient) const
      MXREC_REQUIRES_SHARED(shard.mu);
  bool Refuse(KeyCounters* counters, KeyBatch* batch, size_t u) const;  // false: no memory
  static void UndoRefusal(Shard* shard, KeyBatch* batch, size_t u) MXREC_REQUIRES(shard->mu);
  void CommitCounts(KeyBatch* batch, const InsertRequest& request);
  void FillTimes(uint32_t s, KeyBatch* batch, const InsertRequest& request) const;
  // Of a key that gets a row in another way than by a training lookup: its count goes with it.
  void TakeOverCount(Shard* shard, uint64_t hash, int64_t key, RowRef ref)
      MXREC_REQUIRES(shard->mu);
  int64_t UndoInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request);
  bool AssignInShard(uint32_t s, KeyBatch* batch, const float* values, Existing existing,
                     int64_t* inserted) MXREC_REQUIRES(ShardAt(s).mu);
  int64_t UndoAssignInShard(uint32_t s, const KeyBatch& batch);
  // Whether the capacity would not hold the batch if all its keys were new and distinct.
  bool MayExceedCapacity(size_t keys) const {
    return capacity_ - rows() < static_cast<int64_t>(keys);
  }
  // Eviction. Of a shard whose lock is held.
  bool Expired(uint32_t s, RowRef ref) const MXREC_REQUIRES_SHARED(ShardAt(s).mu);
  bool Expired(const SpilledRow& row) const;
  bool Expired(uint32_t s, const Entry& entry) const MXREC_REQUIRES_SHARED(ShardAt(s).mu) {
    return entry.spilled == nullptr ? Expired(s, entry.ref) : Expired(*entry.spilled);
  }
  // Of the shard's entries, those with a row that is below sweep_.min_l2. Marks rows on SSD.
  std::vector<Entry> Below(uint32_t s, const std::vector<Entry>& entries)
      MXREC_REQUIRES(ShardAt(s).mu);
  uint32_t FrequencyOf(uint32_t s, const Entry& entry) const MXREC_REQUIRES_SHARED(ShardAt(s).mu);
  void RemoveRow(uint32_t s, int64_t key, RowRef ref) MXREC_REQUIRES(ShardAt(s).mu);
  // Returns how many.
  int64_t EraseSpilled(uint32_t s, const KeyBatch& batch) MXREC_REQUIRES(ShardAt(s).mu);
  // Rows of a saved block: makes them, embeddings to be written by the caller. Of keys that have a
  // row, may_be_there(shard, row) says whether that may be; else, and of a key twice, kDataLoss.
  Status MakeRows(const std::vector<int64_t>& keys, KeyBatch* batch,
                  const std::function<bool(uint32_t, RowRef)>& may_be_there);
  // Snapshots and versions.
  void StampFreshRows();
  void ForEachStamp(const std::function<void(uint16_t*)>& each);  // of every row
  void EnsureEpochs();
  bool TrackCounts(bool on);  // false: no memory
  void EndCountsSave(bool follows);
  void EmitRow(int64_t key, uint32_t frequency, uint32_t last_time, const float* row,
               RowBlock* block) const;
  Status ScanSegment(uint32_t s, uint64_t* position, RowBlock* block);
  template <class Use>
  void ForEachUnsaved(Use&& use) const;
  void BeginSpilledLap();
  Status ScanSpilled(size_t max_rows, RowBlock* block);
  // Adds the row if the running save is to write it. The save has dealt with it now.
  void TakeForSave(uint32_t s, int64_t key, SpilledRow* row, SpilledBatch* batch)
      MXREC_REQUIRES_SHARED(ShardAt(s).mu);
  Status EmitSpilled(const ssd::SsdLog::Guard& guard, const SpilledBatch& batch,
                     RowBlock* block) const;
  void TakeImages(uint32_t s, size_t most, bool orphans_only, RowBlock* block);
  int64_t MeasureSegment(uint32_t s, EvictionSweep::Lap* lap) MXREC_REQUIRES(ShardAt(s).mu);
  int64_t SweepRows(uint32_t s, int64_t most, EvictionSweep::Lap* lap, int64_t* freed)
      MXREC_REQUIRES(ShardAt(s).mu);
  int64_t DrainSegment(uint32_t s, int64_t most, EvictionSweep::Lap* lap, int64_t* moved)
      MXREC_REQUIRES(ShardAt(s).mu);
  int64_t SweepSegment(uint32_t s, int64_t most, int64_t* freed, int64_t* moved);
  void ChooseLeastFrequency();
  void NextPhase(bool at_once);
  // Leaves batch deduplicated and its refs found.
  Status CheckCapacity(KeyBatch* batch, bool deduplicated, uint64_t coefficient);
  void WriteInverse(uint32_t s, const KeyBatch& batch, int32_t* inverse) const;
  Status OutOfMemory(const KeyBatch& batch) const;
  // What a call wants done with a row, once it is there: counts, address, its place in the outputs.
  class RowUse;
  int64_t FindAndUse(uint32_t s, KeyBatch* batch, KnownRows known, RowUse use) const
      MXREC_REQUIRES(ShardAt(s).mu);
  // As an erasure or a sweep does: deltas hear of it.
  void ForgetCount(uint32_t s, uint64_t hash, int64_t key) MXREC_REQUIRES(ShardAt(s).mu);
  void GatherInShard(uint32_t s, const KeyBatch& batch, const InsertRequest& request) const
      MXREC_REQUIRES_SHARED(ShardAt(s).mu);
  ReadResult ReadPlain(KeySpan keys, size_t begin, size_t end, const kernels::RowCopier& copy,
                       const float* absent_row, float* out) const;
  // Now and then, makes the keys hot that recent batches asked for most. No lock may be held.
  // Out of memory: they stay as they are.
  void RefreshHotRows(KeySpan keys) const;
  void RefreshHotRowsNow(KeySpan keys) const;
  void ReadAndCollect(KeySpan keys, const float* absent_row, float* out, bool* out_of_memory);
  void UseCollected(const InsertRequest& use);
  void InitializeRow(int64_t key, const float* values, float* row) const;

  // Translates addresses into current ones; -1 for padding and for rows that are gone.
  // kInvalidArgument for one that this table never gave out, and for a stale one under kReject.
  Status Canonicalize(std::span<const int64_t> addresses, StaleAddress policy,
                      int64_t* current) const;
  // batch: keys, or canonical addresses. check_sums: sums of duplicates may overflow; one that does
  // is kInvalidArgument.
  Status UpdateSums(KeyBatch* batch, KeyBatch::Grouping grouping, const float* grads,
                    float learning_rate, bool check_sums, std::atomic<int64_t>* step,
                    ApplyResult* result);
  // The one place where rows are handed to the optimizer. grads: [n, dim].
  void UpdateRows(float* const* rows, const float* grads, size_t n,
                  const StepParams& params) const {
    format_.Update(*optimizer_, slots_, rows, grads, n, params);
  }
  const float* FindRow(int64_t key) const;
};

}  // namespace mxrec
