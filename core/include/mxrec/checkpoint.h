// Full checkpoints of one table. The format is docs/format-checkpoint.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

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
};

// Writes `table` to directory `dir` (created; its parent must exist): written beside it under a
// temporary name, synced, renamed. An existing `dir` is replaced, and left alone on error.
MXREC_API Result<CheckpointInfo> SaveTable(const Table& table, const std::string& dir, int64_t step,
                                           Env* env = Env::Default());
MXREC_API Result<CheckpointInfo> ReadCheckpointInfo(const std::string& dir,
                                                    Env* env = Env::Default());
// Replaces the rows of `table` by those in `dir`. On any error the table is as it was. The table
// keeps its own name, capacity, shards, initializer and value type (embeddings saved in another one
// are rounded to nearest); dim and optimizer kind must agree.
MXREC_API Result<CheckpointInfo> RestoreTable(Table* table, const std::string& dir,
                                              Env* env = Env::Default());
// A new table with the saved options and rows. num_shards 0: chosen from this machine.
MXREC_API Result<std::shared_ptr<Table>> LoadTable(const std::string& dir, int num_shards = 0,
                                                   Env* env = Env::Default());

}  // namespace mxrec
