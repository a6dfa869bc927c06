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
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mxrec/keys.h"
#include "mxrec/options.h"
#include "mxrec/pooling.h"
#include "mxrec/status.h"

namespace mxrec {

inline constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

// An address names a row for as long as the row stays where it is: table tag, generation and slot
// in 63 bits (docs/architecture.md). kNoAddress means "no row here": padding, or an absent key.
inline constexpr int64_t kNoAddress = -1;

// The distinct keys of a batch, in the order of their first occurrence.
struct UniqueKeys {
  std::vector<int64_t> keys;       // [u]
  std::vector<int64_t> addresses;  // [u]; kNoAddress for padding keys and, in kFind, absent ones
  std::vector<uint32_t> counts;    // [u] occurrences in the batch

  size_t size() const { return keys.size(); }
};

// Where the distinct keys of a batch are written, in the order of their first occurrence. Null: not
// wanted.
struct UniqueOutput {
  int64_t* keys = nullptr;       // [u]
  int64_t* addresses = nullptr;  // [u], as in UniqueKeys
  uint32_t* counts = nullptr;    // [u]
  float* rows = nullptr;         // [u, dim]; zeros for keys without a row
};
// Makes room for so many distinct keys. It is called once, before the table changes; its error ends
// the call.
using UniqueAllocator = std::function<Result<UniqueOutput>(size_t unique)>;

enum class ResolveMode : uint8_t {
  kFind,    // changes nothing
  kInsert,  // inserts missing keys, counts uses
};

// What becomes of a gradient whose address is no longer valid.
enum class StaleAddress : uint8_t {
  kReject,    // the whole batch is refused with kInvalidArgument
  kFallBack,  // the row is looked for by the key that last lived there; none: skipped and counted
};

struct ApplyResult {
  int64_t updated = 0;  // rows
  int64_t skipped = 0;  // distinct keys or addresses without a row, padding included
};

// Complete rows, column by column: the unit of export and restore.
struct RowBlock {
  std::vector<int64_t> keys;        // [n]
  std::vector<uint32_t> frequency;  // [n] training occurrences, saturating
  std::vector<uint32_t> last_time;  // [n] seconds, 0: never stamped
  std::vector<float> values;        // [n, row_floats]: embedding, then slots

  size_t size() const { return keys.size(); }
  void clear() {
    keys.clear();
    frequency.clear();
    last_time.clear();
    values.clear();
  }
};

// Where an export stands. Value-initialised: at the start.
struct ScanCursor {
  uint32_t shard = 0;
  uint64_t position = 0;  // in the shard's key order; 2^32: the shard is done
};

struct TableStats {
  int64_t rows = 0;
  int64_t capacity = kUnbounded;
  // Bytes held from the operating system, by kind.
  int64_t bytes_rows = 0;
  int64_t bytes_metadata = 0;
  int64_t bytes_index = 0;
  double load = 0.0;  // occupied fraction of the index's entries
  int64_t segments = 0;
  // Since creation. Hits and misses: keys of lookups, repetitions included, that had a row when the
  // call began or had none.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t inserts = 0;
  int64_t erased = 0;
  int64_t refused = 0;            // keys turned away by a full table
  int64_t skipped_gradients = 0;  // gradients whose key had no row
  int64_t hot_hits = 0;           // of `hits`, those found among the hot rows
  int64_t hot_rows = 0;           // rows that have a copy there now
  int64_t bytes_hot = 0;
  int64_t growth_events = 0;  // index segments split
  int64_t optimizer_step = 0;
  int num_shards = 0;
  ValueType value_type = ValueType::kFloat32;
};

class TableState;  // shards of one incarnation of the rows (core/src/table/table_state.h)

// Rows being rebuilt beside a living table; Table::Adopt swaps them in.
class MXREC_API RowLoader {
 public:
  RowLoader(RowLoader&&) noexcept;
  RowLoader& operator=(RowLoader&&) noexcept;
  ~RowLoader();

  // Adds rows in the layout of the `saved` optimizer given to Table::NewLoader. A key that was
  // added before is kDataLoss. Thread-compatible.
  Status Add(const RowBlock& block);
  int64_t size() const;

 private:
  friend class Table;
  RowLoader(std::unique_ptr<TableState> state, OptimizerOptions saved_optimizer, int dim);
  std::unique_ptr<TableState> state_;
  OptimizerOptions saved_optimizer_;
  int saved_row_floats_;
};

class MXREC_API Table {
 public:
  static Result<std::shared_ptr<Table>> Create(const TableOptions& options);
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  const std::string& name() const { return name_; }
  int dim() const { return dim_; }
  // As created, with num_shards resolved and the optimizer that is bound now.
  TableOptions options() const;
  int64_t size() const;
  int64_t capacity() const;  // kUnbounded when the table grows without limit
  int row_floats() const;    // dim * (1 + slots)

  // --- Reading. Absent keys read `absent_row` [dim], or zeros when it is null. out: [n, dim].
  Status Lookup(KeySpan keys, const float* absent_row, float* out) const;
  Status Contains(KeySpan keys, bool* out) const;  // out: [n]
  // Distinct keys of the batch that have no row, in the order of first occurrence.
  Status Missing(KeySpan keys, std::vector<int64_t>* out) const;

  // --- Pooled lookups (pooling.h): one row per bag, out: [bags, dim]; no array of one row per key.
  // Offsets that are not those of the keys are kInvalidArgument. Absent keys read as above and
  // count in the divisor.
  Status LookupPooled(KeySpan keys, const Bags& bags, const float* absent_row, float* out) const;
  // Missing keys get a row with its initial value.
  Status LookupOrInsertPooled(KeySpan keys, const Bags& bags, float* out);
  // Of resolved keys, with their addresses; inverse: [n], each in [0, keys.size()). Stale addresses
  // fall back to their key.
  Status ReadRowsPooled(std::span<const int64_t> addresses, KeySpan keys, const int32_t* inverse,
                        const Bags& bags, float* out) const;
  // ApplyGradients from the gradients of the bags, grads: [bags, dim]. NaN or infinite weights are
  // kInvalidArgument, too.
  Status ApplyPooledGradients(KeySpan keys, const Bags& bags, const float* grads,
                              std::optional<float> learning_rate, ApplyResult* result);

  // --- Training lookups: missing keys get a row with its initial value.
  Status LookupOrInsert(KeySpan keys, float* out);
  // Deduplicates a batch and finds (or makes) its rows. inverse: [n], may be null:
  // keys[i] == unique->keys[inverse[i]].
  Status Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, UniqueKeys* unique);
  // The same, with rows and into memory of the caller.
  Status Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, const UniqueAllocator& allocate);
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
  // Prepares to replace all rows by saved ones. kFailedPrecondition if the saved slots are those of
  // another optimizer kind than the bound one (kNone on either side is fine).
  Result<RowLoader> NewLoader(const OptimizerOptions& saved) const;
  Status Adopt(RowLoader loader, int64_t optimizer_step);
  int64_t optimizer_step() const;
  // Changes with every change of the rows; equal values: nothing has changed in between.
  uint64_t version() const;

  TableStats Stats() const;
  // Releases all rows. Later calls return kFailedPrecondition. Idempotent.
  void Close();
  bool closed() const;

 private:
  explicit Table(TableOptions options);
  struct Impl;
  std::string name_;
  int dim_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxrec
