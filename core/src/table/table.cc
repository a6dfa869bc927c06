#include "mxrec/table.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <mutex>
#include <new>
#include <thread>

#include "mxrec/env.h"
#include "table/table_state.h"

namespace mxrec {
namespace {

constexpr size_t kMaxBatch = size_t{1} << 31;

// Two shards a thread keep threads busy when shards are uneven; results do not depend on it.
int DefaultShards() {
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<int>(std::clamp(std::bit_ceil(2 * threads), 8u, 64u));
}

uint32_t NowSeconds() { return static_cast<uint32_t>(Env::Default()->NowMicros() / 1'000'000); }

}  // namespace

struct Table::Impl {
  // Shared: use `state`. Exclusive: replace or release it.
  mutable SharedMutex structure{kStructureRank};
  TableOptions options;               // guarded by structure
  std::unique_ptr<TableState> state;  // guarded by structure; null: closed
  // Exclusive: a batch changes rows; one at a time, each on all threads. Shared: an export keeps
  // changes out, so that it sees the rows and the step between two batches.
  mutable SharedMutex changes{kChangesRank};
  std::atomic<int64_t> step{0};
  std::atomic<uint64_t> version{0};
};

struct Table::ReadLock::Impl {
  std::shared_lock<SharedMutex> structure;
  std::shared_lock<SharedMutex> changes;
};

namespace {

Status Closed(const std::string& name) {
  return FailedPrecondition("table '" + name + "' is closed; create or load it again");
}

// Runs one call on an open table under the structure lock; memory that runs out outside the
// shards becomes a Status.
template <class Impl, class Call>
Status WithState(const std::string& name, Impl& impl, size_t batch, Call&& call) {
  if (batch > kMaxBatch) {
    return InvalidArgument("keys has " + std::to_string(batch) + " elements; at most " +
                           std::to_string(kMaxBatch) + " in one call");
  }
  std::shared_lock lock(impl.structure);
  if (impl.state == nullptr) return Closed(name);
  try {
    return call(*impl.state);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory in a call on table '" + name + "' with " +
                             std::to_string(batch) + " keys; the table is as it was");
  }
}

// The same for a call that changes rows.
template <class Impl, class Call>
Status WithChange(const std::string& name, Impl& impl, size_t batch, Call&& call) {
  return WithState(name, impl, batch, [&](TableState& state) {
    std::unique_lock lock(impl.changes);
    return call(state);
  });
}

KeyBatch::Ptr Partitioned(const TableState& state, KeySpan keys,
                          KeyBatch::Grouping grouping = KeyBatch::Grouping::kKeys) {
  KeyBatch::Ptr batch = KeyBatch::Acquire();
  batch->Partition(keys, state.shard_bits(), grouping);
  return batch;
}

}  // namespace

Result<std::shared_ptr<Table>> Table::Create(const TableOptions& given) {
  TableOptions options = given;
  MXREC_RETURN_IF_ERROR(Validate(options));
  if (options.num_shards == 0) options.num_shards = DefaultShards();
  auto state = TableState::Create(options);
  if (!state.ok()) return state.status();
  std::shared_ptr<Table> table(new Table(std::move(options)));
  table->impl_->state = std::move(state).value();
  return table;
}

Table::Table(TableOptions options)
    : name_(options.name), dim_(options.dim), impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
}

Table::~Table() = default;

TableOptions Table::options() const {
  std::shared_lock lock(impl_->structure);
  return impl_->options;
}

int64_t Table::size() const {
  std::shared_lock lock(impl_->structure);
  return impl_->state == nullptr ? 0 : impl_->state->rows();
}

int64_t Table::capacity() const {
  std::shared_lock lock(impl_->structure);
  return impl_->options.memory_rows > 0 ? impl_->options.memory_rows : kUnbounded;
}

int Table::row_floats() const {
  std::shared_lock lock(impl_->structure);
  return dim_ * (1 + SlotCount(impl_->options.optimizer.kind));
}

int64_t Table::optimizer_step() const { return impl_->step; }
uint64_t Table::version() const { return impl_->version; }

bool Table::closed() const {
  std::shared_lock lock(impl_->structure);
  return impl_->state == nullptr;
}

void Table::Close() {
  std::unique_lock lock(impl_->structure);
  impl_->state.reset();
  ++impl_->version;
}

// --- Reading ------------------------------------------------------------------------------------

Status Table::Lookup(KeySpan keys, const float* absent_row, float* out) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.Read(keys, absent_row, out);
    return Status();
  });
}

Status Table::Contains(KeySpan keys, bool* out) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.Contains(keys, out);
    return Status();
  });
}

Status Table::Missing(KeySpan keys, std::vector<int64_t>* out) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.Missing(keys, out);
    return Status();
  });
}

Status Table::ReadRows(std::span<const int64_t> addresses, KeySpan keys, const float* absent_row,
                       float* out) const {
  if (addresses.size() != keys.size()) {
    return InvalidArgument("addresses has " + std::to_string(addresses.size()) +
                           " elements and keys " + std::to_string(keys.size()) +
                           "; there is one key for each address");
  }
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.ReadAddresses(addresses, keys, absent_row, out);
    return Status();
  });
}

Status Table::LookupPooled(KeySpan keys, const Bags& bags, const float* absent_row,
                           float* out) const {
  MXREC_RETURN_IF_ERROR(Validate(bags, keys.size()));
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.ReadPooled(keys, bags, absent_row, out);
    return Status();
  });
}

Status Table::ReadRowsPooled(std::span<const int64_t> addresses, KeySpan keys,
                             const int32_t* inverse, const Bags& bags, float* out) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    state.ReadAddressesPooled(addresses, keys, inverse, bags, out);
    return Status();
  });
}

// --- Training lookups ---------------------------------------------------------------------------

Status Table::LookupOrInsert(KeySpan keys, float* out) {
  return WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    MXREC_RETURN_IF_ERROR(state.ReadOrInsert(keys, NowSeconds(), out));
    ++impl_->version;
    return Status();
  });
}

Status Table::Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse,
                      const UniqueAllocator& allocate) {
  return WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    MXREC_RETURN_IF_ERROR(state.Resolve(keys, mode, NowSeconds(), inverse, allocate));
    if (mode == ResolveMode::kInsert) ++impl_->version;
    return Status();
  });
}

Status Table::Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, UniqueKeys* unique) {
  return Resolve(keys, mode, inverse, [&](size_t n) -> Result<UniqueOutput> {
    unique->keys.resize(n);
    unique->addresses.resize(n);
    unique->counts.resize(n);
    return UniqueOutput{.keys = unique->keys.data(),
                        .addresses = unique->addresses.data(),
                        .counts = unique->counts.data()};
  });
}

// --- Updating -----------------------------------------------------------------------------------

namespace {

Status NoOptimizer(const std::string& name) {
  return FailedPrecondition("table '" + name +
                            "' has no optimizer; give it one when it is created "
                            "(optimizer=mxrec.Adagrad(...)) or through BindOptimizer");
}

Status CheckLearningRate(float learning_rate) {
  if (learning_rate >= 0.0f && learning_rate <= std::numeric_limits<float>::max()) return {};
  return InvalidArgument("learning_rate is " + std::to_string(learning_rate) +
                         "; it must be finite and not negative");
}

}  // namespace

Status Table::ApplyGradients(KeySpan keys, const float* grads, std::optional<float> learning_rate,
                             ApplyResult* result) {
  return WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    if (state.optimizer() == nullptr) return NoOptimizer(name_);
    const float rate = learning_rate.value_or(impl_->options.optimizer.learning_rate);
    MXREC_RETURN_IF_ERROR(CheckLearningRate(rate));
    MXREC_RETURN_IF_ERROR(state.ApplyToKeys(keys, grads, rate, &impl_->step, result));
    ++impl_->version;
    return Status();
  });
}

Status Table::ApplyToAddresses(std::span<const int64_t> addresses, const float* grads,
                               std::optional<float> learning_rate, StaleAddress policy,
                               ApplyResult* result) {
  return WithChange(name_, *impl_, addresses.size(), [&](TableState& state) {
    if (state.optimizer() == nullptr) return NoOptimizer(name_);
    const float rate = learning_rate.value_or(impl_->options.optimizer.learning_rate);
    MXREC_RETURN_IF_ERROR(CheckLearningRate(rate));
    MXREC_RETURN_IF_ERROR(
        state.ApplyToAddresses(addresses, grads, rate, policy, &impl_->step, result));
    ++impl_->version;
    return Status();
  });
}

Status Table::Assign(KeySpan keys, const float* values) {
  return WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    KeyBatch::Ptr batch = Partitioned(state, keys);
    MXREC_RETURN_IF_ERROR(state.Assign(batch.get(), values, Existing::kOverwrite));
    ++impl_->version;
    return Status();
  });
}

Status Table::InsertMissing(KeySpan keys, const float* values) {
  return WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    KeyBatch::Ptr batch = Partitioned(state, keys);
    MXREC_RETURN_IF_ERROR(state.Assign(batch.get(), values, Existing::kKeep));
    ++impl_->version;
    return Status();
  });
}

Result<int64_t> Table::Erase(KeySpan keys) {
  int64_t erased = 0;
  MXREC_RETURN_IF_ERROR(WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    KeyBatch::Ptr batch = Partitioned(state, keys);
    erased = state.Erase(batch.get());
    ++impl_->version;
    return Status();
  }));
  return erased;
}

Status Table::BindOptimizer(const OptimizerOptions& optimizer) {
  MXREC_RETURN_IF_ERROR(Validate(optimizer));
  std::unique_lock lock(impl_->structure);
  if (impl_->state == nullptr) return Closed(name_);
  const OptimizerOptions& bound = impl_->options.optimizer;
  if (bound == optimizer) return {};
  if (bound.kind != OptimizerKind::kNone && bound.kind != optimizer.kind) {
    return FailedPrecondition("table '" + name_ + "' is trained by " + OptimizerName(bound.kind) +
                              " and cannot change to " + OptimizerName(optimizer.kind) +
                              "; use one optimizer for a table, or another table");
  }
  if (bound.kind == optimizer.kind) {
    impl_->state->Reconfigure(optimizer);
  } else {
    MXREC_RETURN_IF_ERROR(impl_->state->Relayout(optimizer));
  }
  impl_->options.optimizer = optimizer;
  ++impl_->version;
  return {};
}

// --- Export and restore -------------------------------------------------------------------------

Table::ReadLock::ReadLock(const Table* table) : impl_(std::make_unique<Impl>()) {
  impl_->structure = std::shared_lock(table->impl_->structure);
  impl_->changes = std::shared_lock(table->impl_->changes);
}
Table::ReadLock::ReadLock(ReadLock&&) noexcept = default;
Table::ReadLock::~ReadLock() = default;

Result<Table::ReadLock> Table::LockForRead() const {
  ReadLock lock(this);
  if (impl_->state == nullptr) return Closed(name_);
  return lock;
}

Status Table::Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block,
                   const ReadLock* lock) const {
  if (max_rows < 1) {
    return InvalidArgument("max_rows is " + std::to_string(max_rows) + "; it must be at least 1");
  }
  if (lock != nullptr) {
    impl_->state->Scan(cursor, max_rows, block, true);
    return {};
  }
  return WithState(name_, *impl_, 0, [&](const TableState& state) {
    state.Scan(cursor, max_rows, block, false);
    return Status();
  });
}

RowLoader::RowLoader(std::unique_ptr<TableState> state, OptimizerOptions saved_optimizer, int dim)
    : state_(std::move(state)),
      saved_optimizer_(saved_optimizer),
      saved_row_floats_(dim * (1 + SlotCount(saved_optimizer.kind))) {}
RowLoader::RowLoader(RowLoader&&) noexcept = default;
RowLoader& RowLoader::operator=(RowLoader&&) noexcept = default;
RowLoader::~RowLoader() = default;

Status RowLoader::Add(const RowBlock& block) {
  try {
    return state_->Load(block, saved_row_floats_);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading " + std::to_string(block.size()) +
                             " rows");
  }
}

int64_t RowLoader::size() const { return state_->rows(); }

Result<RowLoader> Table::NewLoader(const OptimizerOptions& saved) const {
  TableOptions layout = options();
  const OptimizerKind bound = layout.optimizer.kind;
  if (bound == OptimizerKind::kNone) {
    layout.optimizer = saved;  // the slots stay with their rows
  } else if (saved.kind != OptimizerKind::kNone && saved.kind != bound) {
    return FailedPrecondition("table '" + name_ + "' is trained by " + OptimizerName(bound) +
                              " but the saved rows carry the slots of " +
                              OptimizerName(saved.kind) + "; use the same optimizer");
  }
  auto state = TableState::Create(layout);
  if (!state.ok()) return state.status();
  return RowLoader(std::move(state).value(), saved, dim_);
}

Status Table::Adopt(RowLoader loader, int64_t optimizer_step) {
  std::unique_lock lock(impl_->structure);
  if (impl_->state == nullptr) return Closed(name_);
  const OptimizerOptions& bound = impl_->options.optimizer;
  if (loader.state_->row_floats() != dim_ * (1 + SlotCount(bound.kind)) &&
      bound.kind != OptimizerKind::kNone) {
    return FailedPrecondition("table '" + name_ +
                              "' was given another optimizer while its rows were being loaded; "
                              "restore again");
  }
  if (bound.kind == OptimizerKind::kNone) impl_->options.optimizer = loader.saved_optimizer_;
  loader.state_->InheritCounters(*impl_->state);
  std::swap(impl_->state, loader.state_);  // the old rows go with the loader, behind the lock
  impl_->step = optimizer_step;
  ++impl_->version;
  lock.unlock();
  return {};
}

TableStats Table::Stats() const {
  TableStats stats;
  stats.optimizer_step = impl_->step;
  std::shared_lock lock(impl_->structure);
  if (impl_->state != nullptr) impl_->state->AddStats(&stats);
  return stats;
}

}  // namespace mxrec
