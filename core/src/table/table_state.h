// TableState: the shards of one incarnation of a table's rows. Table adds what outlives an
// incarnation (name, options, the lock that lets one replace another).
//
// Thread safety: every method may run concurrently with every other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "arena/address.h"
#include "batch/key_batch.h"
#include "initializers/row_initializer.h"
#include "mxrec/table.h"
#include "optimizers/optimizer.h"
#include "table/hot_rows.h"
#include "table/hot_sampler.h"
#include "table/read_pipeline.h"
#include "table/row_format.h"
#include "table/shard.h"
#include "util/worker_pool.h"

namespace mxrec {

// Where the distinct keys of a batch go. inverse: [n], or null.
struct UniqueRequest {
  int32_t* inverse;
  UniqueOutput output;
};

// What an inserting call wants done with the rows it resolves.
struct InsertRequest {
  bool count_use = false;  // frequency and time of the last use
  uint32_t now = 0;        // seconds
  // [n, dim]; embeddings by batch position or, with `positions` [n], by positions[that].
  float* gather = nullptr;
  const uint32_t* positions = nullptr;
  // The batch is deduplicated: it has so many distinct keys. None: it is not.
  std::optional<size_t> distinct = std::nullopt;
  const UniqueRequest* unique = nullptr;  // of a deduplicated batch
};

// What becomes of rows that Assign finds.
enum class Existing : uint8_t { kOverwrite, kKeep };

class TableState {
 public:
  // options: validated, num_shards resolved.
  static Result<std::unique_ptr<TableState>> Create(const TableOptions& options);
  ~TableState();

  int64_t rows() const { return rows_.load(std::memory_order_relaxed); }
  int64_t capacity() const { return capacity_; }
  int dim() const { return dim_; }
  // Of a row in a RowBlock; in memory it is format().stored_floats.
  int row_floats() const { return dim_ * (1 + slots_); }
  const RowFormat& format() const { return format_; }
  uint32_t shards() const { return static_cast<uint32_t>(shards_.size()); }
  int shard_bits() const { return shard_bits_; }

  // --- By key (table_state_read.cc).
  void Read(KeySpan keys, const float* absent_row, float* out) const;
  void Contains(KeySpan keys, bool* out) const;
  void Missing(KeySpan keys, std::vector<int64_t>* out) const;
  void Find(KeyBatch* batch) const;  // fills batch->address
  void ReadAddresses(std::span<const int64_t> addresses, KeySpan keys, const float* absent_row,
                     float* out) const;
  // One row per bag (table_state_pooled.cc). Bags are valid.
  void ReadPooled(KeySpan keys, const Bags& bags, const float* absent_row, float* out) const;
  void ReadAddressesPooled(std::span<const int64_t> addresses, KeySpan keys, const int32_t* inverse,
                           const Bags& bags, float* out) const;

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
  Status ReadOrInsert(KeySpan keys, uint32_t now, float* out);
  // Finds or makes the rows of a batch's distinct keys (table_state_resolve.cc). `allocate` is
  // asked before anything changes.
  Status Resolve(KeySpan keys, ResolveMode mode, uint32_t now, int32_t* inverse,
                 const UniqueAllocator& allocate);

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
  using Locks = std::vector<std::shared_lock<SharedMutex>>;
  Locks LockAllShared() const;
  void Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block, bool locked) const;
  Status Load(const RowBlock& block, int block_row_floats);
  // Makes room for another optimizer's slots behind every embedding. Addresses stay valid.
  Status Relayout(const OptimizerOptions& optimizer);

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
  TableState(const TableOptions& options, uint32_t tag);

  // Runs task(s) for every shard, in parallel where the batch is worth it. False: out of memory in
  // some task.
  template <class Task>
  bool ForEachShard(size_t batch_size, Task&& task) const;

  void FindInShard(const Shard& shard, KeyBatch* batch, uint32_t s) const;
  bool InsertInShard(uint32_t s, KeyBatch* batch);
  int64_t UndoInShard(uint32_t s, KeyBatch* batch, const InsertRequest& request);
  bool AssignInShard(uint32_t s, KeyBatch* batch, const float* values, Existing existing,
                     int64_t* inserted);
  int64_t UndoAssignInShard(uint32_t s, const KeyBatch& batch);
  // An index entry and a row for an absent key, contents undefined; kNoRow: no memory.
  static RowRef NewRow(Shard* shard, uint64_t hash, int64_t key);
  // Whether the capacity would not hold the batch if all its keys were new and distinct.
  bool MayExceedCapacity(size_t keys) const {
    return capacity_ - rows() < static_cast<int64_t>(keys);
  }
  // Leaves batch deduplicated and its refs found.
  Status CheckCapacity(KeyBatch* batch, bool deduplicated);
  void WriteInverse(uint32_t s, const KeyBatch& batch, int32_t* inverse) const;
  Status OutOfMemory(const KeyBatch& batch) const;
  // What a call wants done with a row, once it is there: counts, address, its place in the outputs.
  class RowUse;
  int64_t FindAndUse(uint32_t s, KeyBatch* batch, bool found, RowUse use) const;
  void GatherInShard(uint32_t s, const KeyBatch& batch, const InsertRequest& request) const;
  ReadResult ReadPlain(KeySpan keys, size_t begin, size_t end, const kernels::RowCopier& copy,
                       const float* absent_row, float* out) const;
  // Now and then, makes the keys hot that recent batches asked for most. No lock may be held.
  // Out of memory: they stay as they are.
  void RefreshHotRows(KeySpan keys) const;
  void RefreshHotRowsNow(KeySpan keys) const;
  void ReadAndCollect(KeySpan keys, float* out, bool* out_of_memory);
  void UseCollected(uint32_t now);
  void InitializeRow(int64_t key, const float* values, float* row) const;
  RowRef RowAt(const Address& address) const;  // kNoRow: not a live row

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

  int64_t AddressOf(uint32_t s, RowRef ref) const {
    return Address::Pack(tag_, shards_[s]->arena->Meta(ref).generation, s, ref, shard_bits_);
  }
  const float* FindRow(int64_t key) const;
  // The embedding of a row, [dim], as floats and back; every other file goes through these two.
  void LoadEmbedding(const float* row, float* out) const { format_.Load(row, out); }
  void StoreEmbedding(const float* values, float* row) const { format_.Store(values, row); }
  // The optimizer's slots of a row.
  float* Slots(float* row) const { return row + format_.slots_at(); }
  const float* Slots(const float* row) const { return row + format_.slots_at(); }

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
  std::atomic<int64_t> refused_{0};
  std::atomic<int64_t> skipped_{0};
  mutable std::atomic<int64_t> read_hits_{0};
  mutable std::atomic<int64_t> read_misses_{0};
  mutable std::atomic<int64_t> hot_hits_{0};
  // Copies and guesses only: a read leaves the table as it is.
  mutable HotRows hot_;
  mutable HotSampler sampler_;
  // Scratch of UpdateDistinct; one change at a time: a bit a slot of all shards, zero between calls.
  std::vector<uint64_t> marks_;
  std::atomic<int64_t> marks_bytes_{0};
  // Scratch of ReadOrInsert; one change at a time.
  std::vector<UsedRows> used_;                       // by range of the batch
  std::vector<std::vector<HotRows::Use>> hot_used_;  // by shard
};

// Below this many keys a batch is handled by the calling thread alone.
inline constexpr size_t kParallelKeys = 2048;

template <class Task>
bool TableState::ForEachShard(size_t batch_size, Task&& task) const {
  std::atomic<bool> ok{true};
  const auto guarded = [&](size_t s) {
    try {
      task(static_cast<uint32_t>(s));
    } catch (const std::bad_alloc&) {
      ok = false;
    }
  };
  if (batch_size < kParallelKeys) {
    for (size_t s = 0; s < shards_.size(); ++s) guarded(s);
  } else {
    WorkerPool::Get().Run(shards_.size(), guarded);
  }
  return ok;
}

}  // namespace mxrec
