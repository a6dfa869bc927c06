// Table: an embedding table that grows. Keys are any int64; a row is the embedding followed by the
// optimizer's slots.
//
// A call takes a batch and is one unit: it works on the whole batch or, when it returns an error,
// has changed nothing. Keys may repeat within a batch.
//
// Thread safety: every method may be called from any thread at any time. Work inside a call is
// spread over the shards by the worker pool (runtime.h).
//
// Determinism: the rows after a sequence of calls do not depend on the number of threads or shards.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/status.h"
#include "mxrec/table_types.h"

namespace mxrec {

class Snapshot;          // checkpoint.h
struct SnapshotOptions;  // checkpoint.h
class TableState;        // shards of one incarnation of the rows (core/src/table/table_state.h)

// Rows being rebuilt beside a living table; Table::Adopt swaps them in.
class MXREC_API RowLoader {
 public:
  RowLoader(RowLoader&&) noexcept;
  RowLoader& operator=(RowLoader&&) noexcept;
  ~RowLoader();

  // About so many rows will be added; saves the index from growing step by step.
  Status Reserve(int64_t rows);
  // Adds rows in the layout of the `saved` optimizer given to Table::NewLoader. A key that was
  // added before is kDataLoss. Thread-compatible.
  Status Add(const RowBlock& block);
  // What follows is a delta to what has been added: first the keys that have gone, then rows and
  // counts, each new or in the place of an older one.
  void BeginLink();
  Status Erase(const std::vector<int64_t>& keys);
  // Admission of the saved table, before AddCounts. A table without admission takes no counts, nor
  // does one whose saved rows had none. The threshold in force is the saved one if the table has 0
  // or what the saved one was configured with. kFailedPrecondition: they count in different ways.
  Status SetAdmission(const AdmissionOptions& saved, const AdmissionState& state);
  bool takes_counts() const { return takes_counts_; }
  Status AddCounts(const RowBlock& block);
  int64_t size() const;

  // --- Rows of another model (checkpoint.h): keys, embeddings and slots, without counts and times.
  enum class Slots : uint8_t {
    kTake,   // the floats behind the embedding are slots of the loader's optimizer
    kFresh,  // they are passed over
  };
  enum class Present : uint8_t {
    kRefuse,   // a key that is there is kDataLoss
    kReplace,  // its row gets the values, and keeps its own counts and times
  };
  // row_floats: of the block. A key twice in the block is kDataLoss.
  Status Put(const RowBlock& block, int row_floats, Slots slots, Present present);
  // Of a table that has no optimizer yet: rows get fresh slots of this one.
  Status GiveSlots(const OptimizerOptions& optimizer);

 private:
  friend class Table;
  RowLoader(std::unique_ptr<TableState> state, OptimizerOptions saved_optimizer, int dim);
  std::unique_ptr<TableState> state_;
  OptimizerOptions saved_optimizer_;
  int saved_row_floats_;
  bool takes_counts_ = false;
  bool replaces_ = false;  // after BeginLink
};

class MXREC_API Table {
 public:
  struct Impl;

  static Result<std::shared_ptr<Table>> Create(const TableOptions& options);
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  const std::string& name() const { return name_; }
  int dim() const { return dim_; }
  // As created, with num_shards resolved and the optimizer that is bound now.
  TableOptions options() const;
  // kFailedPrecondition in a process that was forked from the one that made a table with an SSD
  // tier: its files and threads are the other's. All calls that give a Status check it themselves.
  Status CheckProcess() const;
  int64_t size() const;
  int64_t capacity() const;  // kUnbounded when the table grows without limit
  int row_floats() const;    // dim * (1 + slots)

  // --- Reading. Absent keys read `absent_row` [dim], or zeros when it is null. out: [n, dim].
  Status Lookup(KeySpan keys, const float* absent_row, float* out) const;
  Status Contains(KeySpan keys, bool* out) const;  // out: [n]
  // Distinct keys of the batch for which a training lookup would make a row, in the order of first
  // occurrence. coefficient: as in TrainingUse.
  Status Missing(KeySpan keys, std::vector<int64_t>* out, int64_t coefficient = 0) const;
  // How often keys were used in training, each occurrence as often as its coefficient; with
  // admission also of keys that have no row yet. out: [n].
  Status Counts(KeySpan keys, int64_t* out) const;

  // --- Pooled lookups: one row per bag, out: [bags, dim]; no array of one row per key.
  // Offsets that are not those of the keys are kInvalidArgument. Absent keys read as above and
  // count in the divisor.
  Status LookupPooled(KeySpan keys, const Bags& bags, const float* absent_row, float* out) const;
  // Missing keys get a row with its initial value.
  Status LookupOrInsertPooled(KeySpan keys, const Bags& bags, float* out,
                              const TrainingUse& use = {});
  // Of resolved keys, with their addresses; inverse: [n], each in [0, keys.size()). Stale addresses
  // fall back to their key.
  Status ReadRowsPooled(std::span<const int64_t> addresses, KeySpan keys, const int32_t* inverse,
                        const Bags& bags, const float* absent_row, float* out) const;
  // ApplyGradients from the gradients of the bags, grads: [bags, dim]. NaN or infinite weights are
  // kInvalidArgument, too.
  Status ApplyPooledGradients(KeySpan keys, const Bags& bags, const float* grads,
                              std::optional<float> learning_rate, ApplyResult* result);

  // --- Training lookups: missing keys get a row with its initial value, if they are admitted.
  Status LookupOrInsert(KeySpan keys, float* out, const TrainingUse& use = {});
  // Deduplicates a batch and finds (or makes) its rows. inverse: [n], may be null:
  // keys[i] == unique->keys[inverse[i]].
  Status Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, UniqueKeys* unique,
                 const TrainingUse& use = {});
  // The same, with rows and into memory of the caller.
  Status Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, const UniqueAllocator& allocate,
                 const TrainingUse& use = {});
  // Does ahead the part of Resolve(keys, kInsert) that changes nothing. The next such call with the
  // very same keys, whenever it comes, is faster by that, and does what it would have done. May run
  // beside any other call; what is prepared and never used is dropped in time.
  Status Prepare(KeySpan keys) const;
  // Starts to read those rows of the keys that are on SSD, and returns at once. A batch with these
  // keys finds them read; everything else is as it was. Without an SSD tier: nothing to do.
  Status Prefetch(KeySpan keys) const;
  // Embeddings of resolved keys, one row each. Stale addresses fall back to their key.
  Status ReadRows(std::span<const int64_t> addresses, KeySpan keys, const float* absent_row,
                  float* out) const;

  // --- Updating. grads: [n, dim]; duplicates are summed in batch order, each row is updated once.
  // A NaN or infinite gradient is kInvalidArgument. One call is one optimizer step. learning_rate:
  // none: that of the bound optimizer.
  Status ApplyGradients(KeySpan keys, const float* grads, std::optional<float> learning_rate,
                        ApplyResult* result);
  Status ApplyToAddresses(std::span<const int64_t> addresses, const float* grads,
                          std::optional<float> learning_rate, StaleAddress policy,
                          ApplyResult* result);
  // Sets embeddings; missing keys are inserted, slots keep (or get) their values. The last of
  // duplicate keys wins.
  Status Assign(KeySpan keys, const float* values);
  // Inserts those of the keys that have no row, with these embeddings; the others stay.
  Status InsertMissing(KeySpan keys, const float* values);
  Result<int64_t> Erase(KeySpan keys);  // rows erased

  // Gives the table its optimizer. A bound one is replaced only by an equal kind (new
  // hyperparameters); kNone may become any. Rows that are there get fresh slots, addresses stay.
  Status BindOptimizer(const OptimizerOptions& optimizer);

  // --- Admission and eviction (docs/admission-and-eviction.md).
  // Turns admission on. Once it is on, only set_threshold changes it: kFailedPrecondition for
  // other options than those that it was turned on with.
  Status ConfigureAdmission(const AdmissionOptions& admission);
  // > 0: the threshold from the next batch on; counts stay. 0: the threshold stays, and counts no
  // longer grow. kFailedPrecondition without admission.
  Status SetThreshold(int64_t threshold);
  // Whether admission is on with a threshold of 0 and no restore has brought another.
  bool admits_none() const;
  Status ConfigureEviction(const EvictionOptions& eviction);
  // Applies the rules of eviction at `now` (seconds; none: the time of the latest training use, or
  // the wall clock where that is what uses are stamped with). What is too old is gone for every
  // caller at once; memory is freed by sweeps: of this call, up to `budget` rows (none: all), and
  // of training lookups that follow. Returns the rows that this call freed.
  Result<int64_t> Evict(std::optional<int64_t> now, std::optional<int64_t> budget);

  // --- Export and restore.
  // Keeps every row as it is until it is destroyed: writers wait.
  class MXREC_API ReadLock {
   public:
    ReadLock(ReadLock&&) noexcept;
    ~ReadLock();

   private:
    friend class Table;
    explicit ReadLock(const Table* table);
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };
  Result<ReadLock> LockForRead() const;
  // Replaces *block by the next rows, at least one and about `max_rows`; empty at the end. A row
  // that is there throughout the scan is returned exactly once. Under a ReadLock the scan is one
  // instant of the table; pass it so that the call does not lock again.
  Status Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block,
              const ReadLock* lock = nullptr) const;
  // The same for the counts of keys without a row: keys, frequency and last_time; of a sketch its
  // blocks, each with its number for a key and 16 floats that are its bytes.
  Status ScanCounts(ScanCursor* cursor, int64_t max_rows, RowBlock* block,
                    const ReadLock& lock) const;
  AdmissionState admission_state(const ReadLock& lock) const;
  // Prepares to replace all rows by saved ones. kFailedPrecondition if the saved slots are those of
  // another optimizer kind than the bound one (kNone on either side is fine).
  Result<RowLoader> NewLoader(const OptimizerOptions& saved) const;
  // kResourceExhausted: more rows than the capacity.
  Status Adopt(RowLoader loader, int64_t optimizer_step, const Lineage& lineage = {});
  // Fixes what the table is now, for a reader (checkpoint.h). Waits for the end of another one.
  Result<Snapshot> BeginSnapshot(const SnapshotOptions& wanted) const;
  // Uid of the version since which changes are counted; empty: of none.
  std::string lineage() const;
  int64_t optimizer_step() const;
  // Changes with every change of the rows; equal values: nothing has changed in between.
  uint64_t version() const;

  TableStats Stats() const;
  // Releases all rows. Later calls return kFailedPrecondition. Idempotent.
  void Close();
  bool closed() const;

 private:
  friend class Snapshot;
  explicit Table(TableOptions options);
  std::string name_;
  int dim_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxrec
