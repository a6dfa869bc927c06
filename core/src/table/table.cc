#include "mxrec/table.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>
#include <system_error>
#include <thread>

#include "table/capacity_text.h"
#include "table/table_impl.h"

namespace mxrec {
namespace {

// Two shards a thread keep threads busy when shards are uneven; results do not depend on it.
int DefaultShards() {
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<int>(std::clamp(std::bit_ceil(2 * threads), 8u, 64u));
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
  const bool tiered = state.value()->tiered();
  std::shared_ptr<Table> table(new Table(std::move(options)));
  Impl* const impl = table->impl_.get();
  {
    const ExclusiveLock lock(impl->structure);
    impl->state = std::move(state).value();
  }
  if (!tiered) return table;
  impl->made_by = ::getpid();
  try {
    impl->workers = std::make_unique<TierWorkers>(
        [impl] { impl->SpillAhead(); },
        [impl](const std::vector<int64_t>& keys) { impl->StageAhead(keys); });
  } catch (const std::system_error& error) {
    return ResourceExhausted("cannot start the threads of table '" + table->name() +
                             "' that move rows to and from SSD: " + error.what());
  }
  return table;
}

Table::Table(TableOptions options)
    : name_(options.name), dim_(options.dim), impl_(std::make_unique<Impl>()) {
  const ExclusiveLock lock(impl_->structure);
  impl_->options = std::move(options);
}

Table::~Table() {
  if (impl_->forked()) (void)impl_.release();  // no thread to join, no file to delete
}

TableOptions Table::options() const {
  const SharedLock lock(impl_->structure);
  return impl_->options;
}

Status Table::CheckProcess() const { return mxrec::CheckProcess(name_, *impl_); }

int64_t Table::size() const {
  if (impl_->forked()) {
    impl_->structure.AssumeHeldShared();  // this process has one thread
    return impl_->state == nullptr ? 0 : impl_->state->rows();
  }
  const SharedLock lock(impl_->structure);
  if (impl_->state == nullptr) return 0;
  return impl_->state->rows() - (impl_->state->sweeping() ? impl_->state->CountExpired() : 0);
}

int64_t Table::capacity() const {
  const SharedLock lock(impl_->structure);
  const int64_t memory_rows = impl_->options.memory_rows;
  return memory_rows > 0 ? memory_rows + impl_->options.ssd_rows : kUnbounded;
}

int Table::row_floats() const {
  const SharedLock lock(impl_->structure);
  return dim_ * (1 + SlotCount(impl_->options.optimizer.kind));
}

int64_t Table::optimizer_step() const { return impl_->step; }
uint64_t Table::version() const { return impl_->version; }

bool Table::closed() const {
  if (impl_->forked()) {
    impl_->structure.AssumeHeldShared();  // this process has one thread
    return impl_->state == nullptr;
  }
  const SharedLock lock(impl_->structure);
  return impl_->state == nullptr;
}

void Table::Close() {
  if (impl_->forked()) return;
  const StructureLock lock(*impl_);
  impl_->state.reset();
  ++impl_->version;
}

// --- Reading ------------------------------------------------------------------------------------

Status Table::Lookup(KeySpan keys, const float* absent_row, float* out) const {
  return WithKeys(name_, *impl_, keys,
                  [&](const TableState& state) { return state.Read(keys, absent_row, out); });
}

Status Table::Contains(KeySpan keys, bool* out) const {
  return WithKeys(name_, *impl_, keys, [&](const TableState& state) {
    state.Contains(keys, out);
    return Status();
  });
}

Status Table::Counts(KeySpan keys, int64_t* out) const {
  return WithKeys(name_, *impl_, keys, [&](const TableState& state) {
    state.Counts(keys, out);
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
  return WithKeys(name_, *impl_, keys, [&](const TableState& state) {
    return state.ReadAddresses(addresses, keys, absent_row, out);
  });
}

Status Table::LookupPooled(KeySpan keys, const Bags& bags, const float* absent_row,
                           float* out) const {
  MXREC_RETURN_IF_ERROR(Validate(bags, keys.size()));
  return WithKeysInMemory(name_, *impl_, keys, [&](const TableState& state) {
    state.ReadPooled(keys, bags, absent_row, out);
    return Status();
  });
}

Status Table::ReadRowsPooled(std::span<const int64_t> addresses, KeySpan keys,
                             const int32_t* inverse, const Bags& bags, const float* absent_row,
                             float* out) const {
  return WithKeysInMemory(name_, *impl_, keys, [&](const TableState& state) {
    state.ReadAddressesPooled(addresses, keys, inverse, bags, absent_row, out);
    return Status();
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
  return WithKeyChange(name_, *impl_, keys, [&](TableState& state) -> Status {
    if (state.optimizer() == nullptr) return NoOptimizer(name_);
    impl_->structure.AssumeHeldShared();  // by WithState
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
  return WithChange(name_, *impl_, addresses.size(), [&](TableState& state) -> Status {
    if (state.optimizer() == nullptr) return NoOptimizer(name_);
    impl_->structure.AssumeHeldShared();  // by WithState
    const float rate = learning_rate.value_or(impl_->options.optimizer.learning_rate);
    MXREC_RETURN_IF_ERROR(CheckLearningRate(rate));
    std::vector<int64_t> renewed;
    MXREC_RETURN_IF_ERROR(state.BringInAddresses(addresses, &renewed));
    if (!renewed.empty()) addresses = renewed;
    std::vector<int64_t> masked;
    if (state.sweeping()) {
      size_t first = 0;
      masked = state.MaskExpired(addresses, &first);
      if (!masked.empty() && policy == StaleAddress::kReject) {
        return InvalidArgument("addresses[" + std::to_string(first) +
                               "] names no row: its row in "
                               "table '" +
                               name_ +
                               "' has been evicted; pass addresses of a lookup "
                               "of this table in the same step (-1 is padding)");
      }
      if (!masked.empty()) addresses = masked;
    }
    MXREC_RETURN_IF_ERROR(
        state.ApplyToAddresses(addresses, grads, rate, policy, &impl_->step, result));
    ++impl_->version;
    return Status();
  });
}

Status Table::Assign(KeySpan keys, const float* values) {
  return WithKeyChange(name_, *impl_, keys, [&](TableState& state) -> Status {
    if (state.MakeRoom(keys)) ++impl_->version;
    KeyBatch::Ptr batch = Partitioned(state, keys);
    MXREC_RETURN_IF_ERROR(state.Assign(batch.get(), values, Existing::kOverwrite));
    ++impl_->version;
    return Status();
  });
}

Status Table::InsertMissing(KeySpan keys, const float* values) {
  return WithKeyChange(name_, *impl_, keys, [&](TableState& state) -> Status {
    if (state.MakeRoom(keys)) ++impl_->version;
    KeyBatch::Ptr batch = Partitioned(state, keys);
    MXREC_RETURN_IF_ERROR(state.Assign(batch.get(), values, Existing::kKeep));
    ++impl_->version;
    return Status();
  });
}

Result<int64_t> Table::Erase(KeySpan keys) {
  int64_t erased = 0;
  MXREC_RETURN_IF_ERROR(WithChange(name_, *impl_, keys.size(), [&](TableState& state) {
    if (state.sweeping()) state.Reap(keys);
    KeyBatch::Ptr batch = Partitioned(state, keys);
    erased = state.Erase(batch.get());
    ++impl_->version;
    return Status();
  }));
  return erased;
}

Status Table::BindOptimizer(const OptimizerOptions& optimizer) {
  MXREC_RETURN_IF_ERROR(Validate(optimizer));
  MXREC_RETURN_IF_ERROR(CheckProcess());
  const StructureLock lock(*impl_);
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
    try {
      MXREC_RETURN_IF_ERROR(impl_->state->Relayout(optimizer));
    } catch (const std::bad_alloc&) {
      return ResourceExhausted("out of memory while giving table '" + name_ + "' the slots of " +
                               OptimizerName(optimizer.kind) + "; the table is as it was");
    }
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
  MXREC_RETURN_IF_ERROR(CheckProcess());
  ReadLock lock(this);
  impl_->structure.AssumeHeldShared();  // by the ReadLock
  if (impl_->state == nullptr) return Closed(name_);
  return lock;
}

Status Table::Scan(ScanCursor* cursor, int64_t max_rows, RowBlock* block,
                   const ReadLock* lock) const {
  MXREC_RETURN_IF_ERROR(CheckMaxRows(max_rows));
  if (lock != nullptr) {
    impl_->structure.AssumeHeldShared();  // by the ReadLock
    return impl_->state->Scan(cursor, max_rows, block, true);
  }
  return WithState(name_, *impl_, 0, [&](const TableState& state) {
    return state.Scan(cursor, max_rows, block, false);
  });
}

Status Table::ScanCounts(ScanCursor* cursor, int64_t max_rows, RowBlock* block,
                         const ReadLock& /*lock*/) const {
  impl_->structure.AssumeHeldShared();  // by the ReadLock
  impl_->state->ScanCounts(cursor, max_rows, block);
  return {};
}

RowLoader::RowLoader(std::unique_ptr<TableState> state, OptimizerOptions saved_optimizer, int dim)
    : state_(std::move(state)),
      saved_optimizer_(saved_optimizer),
      saved_row_floats_(dim * (1 + SlotCount(saved_optimizer.kind))) {}
RowLoader::RowLoader(RowLoader&&) noexcept = default;
RowLoader& RowLoader::operator=(RowLoader&&) noexcept = default;
RowLoader::~RowLoader() = default;

Status RowLoader::Reserve(int64_t rows) {
  if (state_->Reserve(rows)) return {};
  return ResourceExhausted("out of memory while making room for " + std::to_string(rows) + " rows");
}

Status RowLoader::Add(const RowBlock& block) {
  try {
    return state_->Load(block, saved_row_floats_, replaces_);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading " + std::to_string(block.size()) +
                             " rows");
  }
}

void RowLoader::BeginLink() {
  replaces_ = true;
  state_->BeginLink();
}

Status RowLoader::Erase(const std::vector<int64_t>& keys) {
  try {
    return state_->EraseKeys(keys);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while erasing " + std::to_string(keys.size()) +
                             " keys");
  }
}

Status RowLoader::AddCounts(const RowBlock& block) {
  try {
    return state_->LoadCounts(block, replaces_);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while loading " + std::to_string(block.size()) +
                             " counts");
  }
}

Status RowLoader::SetAdmission(const AdmissionOptions& saved, const AdmissionState& state) {
  const AdmissionOptions& own = state_->admission();
  AdmissionState restored = state_->admission_state();
  restored.latest_time = state.latest_time;
  restored.time_source = state.time_source;
  takes_counts_ = own.on() && saved.on();
  if (takes_counts_) {
    const bool sketch = own.mode == AdmissionMode::kSketch;
    if (own.mode != saved.mode || (sketch && own.expected_keys != saved.expected_keys)) {
      return FailedPrecondition(
          "the table counts with admission mode " + std::string(AdmissionModeName(own.mode)) +
          (sketch ? " for " + std::to_string(own.expected_keys) + " keys" : "") +
          " but the saved counts are of mode " + AdmissionModeName(saved.mode) +
          (saved.mode == AdmissionMode::kSketch
               ? " for " + std::to_string(saved.expected_keys) + " keys"
               : "") +
          "; use the same");
    }
    // A threshold that the caller has changed since the save is meant to be changed.
    if (own.threshold == 0 || own.threshold == saved.threshold) {
      restored.threshold = state.threshold;
      restored.frozen = own.threshold == 0 || state.frozen;
    }
  }
  state_->SetAdmissionState(restored);
  return {};
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
  state.value()->SetCapacity(kUnbounded);  // a chain may pass through more rows than it ends with
  return RowLoader(std::move(state).value(), saved, dim_);
}

Status Table::Adopt(RowLoader loader, int64_t optimizer_step, const Lineage& lineage) {
  MXREC_RETURN_IF_ERROR(CheckProcess());
  StructureLock lock(*impl_);
  if (impl_->state == nullptr) return Closed(name_);
  const int64_t rows = loader.state_->rows(), capacity = impl_->state->capacity();
  if (rows > capacity) {
    return ResourceExhausted("table '" + name_ + "' has " + SizesOf(impl_->options) +
                             ", but there are " + std::to_string(rows) +
                             " rows to be restored; restore into a table of at least that many: "
                             "raise " +
                             SizesToRaise(impl_->options.ssd_rows > 0));
  }
  const OptimizerOptions& bound = impl_->options.optimizer;
  if (loader.state_->row_floats() != dim_ * (1 + SlotCount(bound.kind)) &&
      bound.kind != OptimizerKind::kNone) {
    return FailedPrecondition("table '" + name_ +
                              "' was given another optimizer while its rows were being loaded; "
                              "restore again");
  }
  if (loader.state_->admission() != impl_->options.admission) {
    return FailedPrecondition("table '" + name_ +
                              "' was given admission while its rows were being loaded; restore "
                              "again");
  }
  if (bound.kind == OptimizerKind::kNone) impl_->options.optimizer = loader.saved_optimizer_;
  loader.state_->SetCapacity(capacity);
  loader.state_->SetLineage(lineage.uid, lineage.step, lineage.counts_recent);
  loader.state_->InheritCounters(*impl_->state);
  std::swap(impl_->state, loader.state_);  // the old rows go with the loader, behind the lock
  impl_->step_before += optimizer_step - impl_->step;
  impl_->step = optimizer_step;
  ++impl_->version;
  const bool wants_spill = impl_->state->WantsSpill();
  lock.unlock();
  if (wants_spill) impl_->workers->Spill();
  return {};
}

TableStats Table::Stats() const {
  TableStats stats;
  if (impl_->forked()) return stats;
  const SharedLock lock(impl_->structure);
  stats.optimizer_step = impl_->step;
  stats.updates = stats.optimizer_step - impl_->step_before;
  if (impl_->state != nullptr) impl_->state->AddStats(&stats);
  return stats;
}

}  // namespace mxrec
