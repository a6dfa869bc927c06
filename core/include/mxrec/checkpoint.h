// Checkpoints of one table, full ones and deltas. The format is docs/format-checkpoint.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mxrec/env.h"
#include "mxrec/options.h"
#include "mxrec/status.h"
#include "mxrec/table.h"

namespace mxrec {

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
                                           Env* env = Env::Default());
// Writes what `snapshot` has fixed to the new directory `dir`, synced; on error it is removed
// again. The snapshot is read to its end, and not ended.
MXREC_API Result<CheckpointInfo> WriteSnapshot(Snapshot* snapshot, const std::string& dir,
                                               int64_t step, Env* env = Env::Default());
MXREC_API Result<CheckpointInfo> ReadCheckpointInfo(const std::string& dir,
                                                    Env* env = Env::Default());
// Replaces the rows of `table` by those in `dir`. On any error the table is as it was. The table
// keeps its own name, capacity, shards, initializer and value type (embeddings saved in another one
// are rounded to nearest); dim and optimizer kind must agree.
MXREC_API Result<CheckpointInfo> RestoreTable(Table* table, const std::string& dir,
                                              Env* env = Env::Default());
struct RestoreOptions {
  bool tracks = false;         // the next save may be a delta to this version
  bool counts_recent = false;  // for its recent_threshold
};
// From a chain: a full checkpoint and deltas, each to the one before. A link that is missing, of
// another chain or out of order is kDataLoss.
MXREC_API Result<CheckpointInfo> RestoreTable(Table* table, const std::vector<std::string>& dirs,
                                              const RestoreOptions& options,
                                              Env* env = Env::Default());
// A new table with the saved options and rows. num_shards 0: chosen from this machine.
MXREC_API Result<std::shared_ptr<Table>> LoadTable(const std::string& dir, int num_shards = 0,
                                                   Env* env = Env::Default());
MXREC_API Result<std::shared_ptr<Table>> LoadTable(const std::vector<std::string>& dirs,
                                                   int num_shards = 0, Env* env = Env::Default());
// Reads every byte of one checkpoint or delta. What is damaged is kDataLoss with file and offset.
MXREC_API Result<CheckpointInfo> VerifyCheckpoint(const std::string& dir,
                                                  Env* env = Env::Default());
// XXH3-64 with seed 0, as in every file of a checkpoint.
MXREC_API uint64_t Checksum(std::span<const char> data);

}  // namespace mxrec
