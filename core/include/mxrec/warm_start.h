// Warm start: the rows of a table come from checkpoints of other models, one after the other.
//
// What is taken of a row is its embedding and, if wished, its optimizer slots. Counts, times and
// what a model knew of keys without a row are not: for admission and eviction the rows are like
// assigned ones, which training has not used yet.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mxrec/env.h"
#include "mxrec/options.h"
#include "mxrec/status.h"
#include "mxrec/table.h"

namespace mxrec {

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
                                const WarmStartOptions& options, Env* env = Env::Default());
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
                                         const WarmStartOptions& options,
                                         Env* env = Env::Default());

}  // namespace mxrec
