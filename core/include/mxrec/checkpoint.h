// What leaves a table and comes back: snapshots, checkpoints, full ones and deltas, and the warm
// start from those of other models. The format of the files is docs/format-checkpoint.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/status.h"
#include "mxrec/table.h"
#include "mxrec/table_types.h"

namespace mxrec {

class Env;                    // files and clock (core/src/env/env.h)
MXREC_API Env* DefaultEnv();  // that of the operating system

// --- Snapshot: a table as it is at one instant, read while training goes on ---------------------
//
// Beginning one copies no row. A row that changes before it has been read leaves an image of itself
// behind; so the extra memory is that of the rows that change meanwhile, and at most image_bytes:
// beyond it calls that change rows wait for the reader, who takes images first.
//
// One snapshot of a table at a time. While there is one, restoring the table, closing it, binding
// an optimizer and turning admission on wait for its end.
//
// Not thread-safe itself; the table is.

struct SnapshotOptions {
  // Uid of the version to which the snapshot is to be a delta: changes since then only. Empty: all
  // rows. The table must be counting its changes since that very version.
  std::string parent = {};
  // From this instant the table counts its changes, for a delta to this snapshot's version.
  bool tracks = false;
  // > 0, of a delta: rows used less often since the parent are left out, and still count as changed
  // for the next delta. Of any that tracks: uses are counted for the next delta.
  int64_t recent_threshold = 0;
  int64_t image_bytes = int64_t{1} << 30;
};

class MXREC_API Snapshot {
 public:
  Snapshot(Snapshot&&) noexcept;
  ~Snapshot();  // End(""), unless there was one

  const std::string& table_name() const;
  // As they were at the instant.
  const TableOptions& options() const;
  int64_t optimizer_step() const;
  const AdmissionState& admission_state() const;
  const SnapshotOptions& wanted() const;
  int64_t parent_step() const;  // of a delta

  // Before the first Scan, which then leaves their rows out: adds the sealed files of the SSD tier
  // that consist mostly of rows of the snapshot, and to which `link` has given a second name.
  Status LinkSegments(const LinkSegment& link, std::vector<SnapshotSegment>* segments);
  // Replaces *block by the next rows, about `max_rows`; empty at the end. Every row once, in no
  // particular order.
  Status Scan(int64_t max_rows, RowBlock* block);
  // Of a delta, replaces *keys by the keys that lost their row or count since the parent; they may
  // have one again. Distinct, ascending.
  Status Gone(std::vector<int64_t>* keys) const;
  // As Scan, of counts (Table::ScanCounts).
  Status ScanCounts(int64_t max_rows, RowBlock* block);
  // Rows that the recent_threshold has left out so far.
  int64_t left_out() const;

  // saved: uid of the version that has been written from it: with `tracks`, what the next delta
  // builds on. Empty: it was given up, and changes count as if there had been no snapshot.
  void End(const std::string& saved, int64_t step = 0);

 private:
  friend class Table;
  struct Impl;
  explicit Snapshot(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// --- Checkpoints of one table ------------------------------------------------------------------

struct CheckpointInfo {
  std::string uid;   // 32 hex digits, drawn for each save
  int64_t step = 0;  // the caller's global step
  int64_t rows = 0;
  int64_t optimizer_step = 0;
  TableOptions options;  // of the saved table
  AdmissionState admission_state;
  // Of a delta; `rows` are then those that changed.
  std::string parent;  // uid of the version that it builds on; empty: a full checkpoint
  int64_t parent_step = 0;
  int64_t gone = 0;      // keys that lost their row or count since
  int64_t left_out = 0;  // changed rows left out because they were used too rarely
  uint64_t bytes = 0;    // of all files
};

// Writes `table` to directory `dir` (created; its parent must exist): written beside it under a
// temporary name, synced, renamed. An existing `dir` is replaced, and left alone on error.
MXREC_API Result<CheckpointInfo> SaveTable(const Table& table, const std::string& dir, int64_t step,
                                           Env* env = DefaultEnv());
// Writes what `snapshot` has fixed to the new directory `dir`, synced; on error it is removed
// again. The snapshot is read to its end, and not ended.
MXREC_API Result<CheckpointInfo> WriteSnapshot(Snapshot* snapshot, const std::string& dir,
                                               int64_t step, Env* env = DefaultEnv());
MXREC_API Result<CheckpointInfo> ReadCheckpointInfo(const std::string& dir,
                                                    Env* env = DefaultEnv());
// Replaces the rows of `table` by those in `dir`. On any error the table is as it was. The table
// keeps its own name, capacity, shards, initializer and value type (embeddings saved in another one
// are rounded to nearest); dim and optimizer kind must agree.
MXREC_API Result<CheckpointInfo> RestoreTable(Table* table, const std::string& dir,
                                              Env* env = DefaultEnv());
struct RestoreOptions {
  bool tracks = false;         // the next save may be a delta to this version
  bool counts_recent = false;  // for its recent_threshold
};
// From a chain: a full checkpoint and deltas, each to the one before. A link that is missing, of
// another chain or out of order is kDataLoss.
MXREC_API Result<CheckpointInfo> RestoreTable(Table* table, const std::vector<std::string>& dirs,
                                              const RestoreOptions& options,
                                              Env* env = DefaultEnv());
// A new table with the saved options and rows. num_shards 0: chosen from this machine.
MXREC_API Result<std::shared_ptr<Table>> LoadTable(const std::string& dir, int num_shards = 0,
                                                   Env* env = DefaultEnv());
MXREC_API Result<std::shared_ptr<Table>> LoadTable(const std::vector<std::string>& dirs,
                                                   int num_shards = 0, Env* env = DefaultEnv());
// Reads every byte of one checkpoint or delta. What is damaged is kDataLoss with file and offset.
MXREC_API Result<CheckpointInfo> VerifyCheckpoint(const std::string& dir, Env* env = DefaultEnv());
// XXH3-64 with seed 0, as in every file of a checkpoint.
MXREC_API uint64_t Checksum(std::span<const char> data);

// --- Warm start: the rows of a table come from checkpoints of other models, one after the other --
//
// What is taken of a row is its embedding and, if wished, its optimizer slots. Counts, times and
// what a model knew of keys without a row are not: for admission and eviction the rows are like
// assigned ones, which training has not used yet.

enum class WarmStartSlots : uint8_t {
  // Those of the rows; fresh ones where the saved table had no optimizer. Another kind of optimizer
  // than the table's is kFailedPrecondition.
  kKeep,
  kReset,  // fresh ones
};
enum class WarmStartMode : uint8_t {
  kReplace,  // the rows of the source are all that there are
  kMerge,    // they are added; of keys that are there they replace embedding and slots
};
struct WarmStartOptions {
  WarmStartSlots slots = WarmStartSlots::kKeep;
  WarmStartMode mode = WarmStartMode::kReplace;
  bool int32_keys = false;  // a key that is no int32 is kInvalidArgument
};

// Rows put together beside a table, which is as it was until Commit swaps them in.
//
// An object that has returned an error can only be destroyed. Thread-compatible. The table keeps
// its name, capacity, shards, initializer, value type, rules and thresholds.
class MXREC_API WarmStart {
 public:
  explicit WarmStart(std::shared_ptr<Table> table);
  WarmStart(WarmStart&&) noexcept;
  ~WarmStart();
  int dim() const { return table_->dim(); }

  // Adds the rows of a table of the same dim, saved as a full checkpoint and perhaps deltas, in
  // order. Returns how many.
  Result<int64_t> AddCheckpoint(const std::vector<std::string>& dirs,
                                const WarmStartOptions& options, Env* env = DefaultEnv());
  // Adds the rows of a matrix [rows, dim]: row i becomes key i, with fresh slots.
  Result<int64_t> AddMatrix(const float* values, int64_t rows, const WarmStartOptions& options);
  // The table gets the rows. Its optimizer step becomes the largest of those whose slots were kept,
  // its own included where its own rows are. kFailedPrecondition: a merge began with the rows of
  // the table, and they have changed since.
  Status Commit();

 private:
  Status Begin(const WarmStartOptions& options, const OptimizerOptions& kept);
  Status CopyTable();
  Status NewLoader(const OptimizerOptions& kept);
  Status CheckCapacity(int64_t rows, const std::string& of) const;
  template <class Call>
  auto Guarded(Call&& call);

  std::shared_ptr<Table> table_;
  std::optional<RowLoader> loader_;
  std::optional<uint64_t> version_;            // of the table, when its rows were copied
  OptimizerKind kind_ = OptimizerKind::kNone;  // of the loader's slots
  int64_t step_ = 0;
  bool failed_ = false;
};

// One source, at once.
MXREC_API Result<int64_t> WarmStartTable(const std::shared_ptr<Table>& table,
                                         const std::vector<std::string>& dirs,
                                         const WarmStartOptions& options, Env* env = DefaultEnv());

}  // namespace mxrec
