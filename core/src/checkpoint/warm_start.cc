#include <algorithm>
#include <functional>
#include <new>
#include <numeric>
#include <type_traits>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/restore.h"
#include "mxrec/checkpoint.h"
#include "table/capacity_text.h"

namespace mxrec {
namespace {

using checkpoint::Manifest;

constexpr int64_t kBlockRows = 65'536;

using AddRows = std::function<Status(const RowBlock&)>;

// A chain put together, in the tiers of the table that its rows are for: it may not fit into memory
// either.
Result<std::shared_ptr<Table>> LoadChain(Env* env, const std::vector<std::string>& dirs,
                                         const TableOptions& target) {
  if (target.ssd_rows == 0) return LoadTable(dirs, 0, env);
  TableOptions options;
  int64_t rows = 0;  // at most, whatever the chain passes through
  for (const std::string& dir : dirs) {
    const auto info = ReadCheckpointInfo(dir, env);
    if (!info.ok()) return info.status();
    rows += info.value().rows;
    options = info.value().options;
  }
  options.num_shards = 0;
  options.memory_rows = target.memory_rows;
  options.ssd_rows = std::clamp<int64_t>(rows, 1, kMaxSsdRows);
  options.ssd_paths = target.ssd_paths;
  options.env = target.env;
  auto table = Table::Create(options);
  if (!table.ok()) return table.status();
  const auto restored = RestoreTable(table.value().get(), dirs, {}, env);
  if (!restored.ok()) return restored.status();
  return table;
}

// All rows of a saved table, block by block. Those of a chain are put together first. last: the
// manifest in the last of `dirs`.
Status ReadRows(Env* env, const std::vector<std::string>& dirs, const Manifest& last,
                const TableOptions& target, const AddRows& add) {
  if (dirs.size() == 1 && !last.is_delta()) {
    checkpoint::Uid uid;
    if (!checkpoint::FromHex(last.info.uid, &uid)) return Internal("unchecked uid in a manifest");
    return checkpoint::ReadRows(env, dirs[0], uid, last, add);
  }
  const auto loaded = LoadChain(env, dirs, target);
  if (!loaded.ok()) return loaded.status();
  RowBlock rows;
  ScanCursor cursor;
  for (;;) {
    MXREC_RETURN_IF_ERROR(loaded.value()->Scan(&cursor, kBlockRows, &rows));
    if (rows.size() == 0) return {};
    MXREC_RETURN_IF_ERROR(add(rows));
  }
}

Status CheckKeys(const Table& table, const RowBlock& rows, const WarmStartOptions& options) {
  if (!options.int32_keys) return {};
  for (const int64_t key : rows.keys) {
    if (key == static_cast<int32_t>(key)) continue;
    return InvalidArgument("table '" + table.name() + "' has int32 keys, but there is the key " +
                           std::to_string(key) + "; create the table with int64 keys");
  }
  return {};
}

}  // namespace

WarmStart::WarmStart(std::shared_ptr<Table> table) : table_(std::move(table)) {}
WarmStart::WarmStart(WarmStart&&) noexcept = default;
WarmStart::~WarmStart() = default;

// Runs one call; after an error there is no other.
template <class Call>
auto WarmStart::Guarded(Call&& call) {
  using Returned = decltype(call());
  if (failed_) {
    return Returned(FailedPrecondition("a call of this warm start of table '" + table_->name() +
                                       "' has failed before; begin another one"));
  }
  failed_ = true;
  try {
    Returned returned = call();
    if constexpr (std::is_same_v<Returned, Status>) {
      failed_ = !returned.ok();
    } else {
      failed_ = !returned.status().ok();
    }
    return returned;
  } catch (const std::bad_alloc&) {
    return Returned(ResourceExhausted("out of memory during the warm start of table '" +
                                      table_->name() + "'; it is as it was"));
  }
}

Status WarmStart::CheckCapacity(int64_t rows, const std::string& of) const {
  if (rows <= table_->capacity()) return {};
  return ResourceExhausted("table '" + table_->name() + "' is full: its capacity is " +
                           std::to_string(table_->capacity()) + " rows, and with " + of +
                           " it would have " + std::to_string(rows) + "; raise " +
                           SizesToRaise(table_->options().ssd_rows > 0) +
                           ", or use dynamic expansion");
}

Status WarmStart::NewLoader(const OptimizerOptions& kept) {
  auto loader = table_->NewLoader(kept);
  if (!loader.ok()) return loader.status();
  loader_ = std::move(loader).value();
  const OptimizerKind bound = table_->options().optimizer.kind;
  kind_ = bound == OptimizerKind::kNone ? kept.kind : bound;
  return {};
}

// The rows and counts of the table itself.
Status WarmStart::CopyTable() {
  const TableOptions own = table_->options();  // locks, so not under the lock below
  MXREC_RETURN_IF_ERROR(NewLoader(own.optimizer));
  auto lock = table_->LockForRead();
  if (!lock.ok()) return lock.status();
  version_ = table_->version();
  step_ = table_->optimizer_step();
  RowBlock rows;
  ScanCursor cursor;
  do {
    MXREC_RETURN_IF_ERROR(table_->Scan(&cursor, kBlockRows, &rows, &lock.value()));
    MXREC_RETURN_IF_ERROR(loader_->Add(rows));
  } while (rows.size() > 0);
  MXREC_RETURN_IF_ERROR(
      loader_->SetAdmission(own.admission, table_->admission_state(lock.value())));
  ScanCursor count_cursor;
  while (loader_->takes_counts()) {
    MXREC_RETURN_IF_ERROR(table_->ScanCounts(&count_cursor, kBlockRows, &rows, lock.value()));
    if (rows.size() == 0) break;
    MXREC_RETURN_IF_ERROR(loader_->AddCounts(rows));
  }
  return {};
}

// kept: the optimizer whose slots will come; kind kNone: none will.
Status WarmStart::Begin(const WarmStartOptions& options, const OptimizerOptions& kept) {
  if (options.mode == WarmStartMode::kReplace) {
    MXREC_RETURN_IF_ERROR(NewLoader(kept));
    version_.reset();
    step_ = 0;
    const TableOptions own = table_->options();
    auto lock = table_->LockForRead();
    if (!lock.ok()) return lock.status();
    // The threshold may have been set since the table was made. Times begin anew.
    AdmissionState state = table_->admission_state(lock.value());
    state.latest_time = 0;
    state.time_source = TimeSource::kNone;
    MXREC_RETURN_IF_ERROR(loader_->SetAdmission(own.admission, state));
  } else if (!loader_) {
    MXREC_RETURN_IF_ERROR(CopyTable());
  }
  if (kind_ == OptimizerKind::kNone && kept.kind != OptimizerKind::kNone) {
    MXREC_RETURN_IF_ERROR(loader_->GiveSlots(kept));
    kind_ = kept.kind;
  }
  return {};
}

Result<int64_t> WarmStart::AddCheckpoint(const std::vector<std::string>& dirs,
                                         const WarmStartOptions& options, Env* env) {
  return Guarded([&]() -> Result<int64_t> {
    if (dirs.empty()) return InvalidArgument("dirs is empty; name a checkpoint of the table");
    const std::string& dir = dirs.back();
    const auto manifest = checkpoint::ReadManifest(env, dir);
    if (!manifest.ok()) return manifest.status();
    const CheckpointInfo& info = manifest.value().info;
    if (info.options.dim != table_->dim()) {
      return InvalidArgument("table '" + table_->name() + "' has dim " +
                             std::to_string(table_->dim()) + ", but " + dir + " has dim " +
                             std::to_string(info.options.dim) + "; warm-start a table of dim " +
                             std::to_string(info.options.dim));
    }
    OptimizerOptions kept;  // none
    if (options.slots == WarmStartSlots::kKeep) kept = info.options.optimizer;
    // Of a table without an optimizer: that of the sources before this one.
    const bool replaces = options.mode == WarmStartMode::kReplace;
    const OptimizerKind bound = table_->options().optimizer.kind;
    const OptimizerKind wanted = bound == OptimizerKind::kNone && !replaces ? kind_ : bound;
    if (kept.kind != OptimizerKind::kNone && wanted != OptimizerKind::kNone &&
        kept.kind != wanted) {
      return FailedPrecondition("table '" + table_->name() + "' has slots of " +
                                OptimizerName(wanted) + ", but " + dir + " holds slots of " +
                                OptimizerName(kept.kind) +
                                "; reset the slots, or use the same optimizer");
    }
    if (replaces) MXREC_RETURN_IF_ERROR(CheckCapacity(info.rows, dir));
    MXREC_RETURN_IF_ERROR(Begin(options, kept));
    const int width = static_cast<int>(manifest.value().layout().row_floats);
    const auto slots =
        kept.kind == OptimizerKind::kNone ? RowLoader::Slots::kFresh : RowLoader::Slots::kTake;
    const auto present = replaces ? RowLoader::Present::kRefuse : RowLoader::Present::kReplace;
    int64_t added = 0;
    MXREC_RETURN_IF_ERROR(ReadRows(env, dirs, manifest.value(), table_->options(),
                                   [&](const RowBlock& rows) -> Status {
                                     MXREC_RETURN_IF_ERROR(CheckKeys(*table_, rows, options));
                                     added += static_cast<int64_t>(rows.size());
                                     return loader_->Put(rows, width, slots, present);
                                   }));
    MXREC_RETURN_IF_ERROR(CheckCapacity(loader_->size(), dir));
    if (kept.kind != OptimizerKind::kNone) step_ = std::max(step_, info.optimizer_step);
    return added;
  });
}

Result<int64_t> WarmStart::AddMatrix(const float* values, int64_t rows,
                                     const WarmStartOptions& options) {
  return Guarded([&]() -> Result<int64_t> {
    constexpr auto kPresent = RowLoader::Present::kReplace;
    MXREC_RETURN_IF_ERROR(CheckCapacity(rows, "the matrix"));
    MXREC_RETURN_IF_ERROR(Begin(options, {}));
    const int dim = table_->dim();
    RowBlock block;
    for (int64_t begin = 0; begin < rows; begin += kBlockRows) {
      const int64_t end = std::min(rows, begin + kBlockRows);
      block.keys.resize(static_cast<size_t>(end - begin));
      std::iota(block.keys.begin(), block.keys.end(), begin);
      block.values.assign(values + begin * dim, values + end * dim);
      MXREC_RETURN_IF_ERROR(CheckKeys(*table_, block, options));
      MXREC_RETURN_IF_ERROR(loader_->Put(block, dim, RowLoader::Slots::kFresh, kPresent));
    }
    MXREC_RETURN_IF_ERROR(CheckCapacity(loader_->size(), "the matrix"));
    return rows;
  });
}

Status WarmStart::Commit() {
  return Guarded([&]() -> Status {
    if (!loader_) return {};
    if (version_ && *version_ != table_->version()) {
      return FailedPrecondition("table '" + table_->name() +
                                "' was changed while rows were being merged into it; it has its "
                                "own rows alone. Warm-start before training begins");
    }
    MXREC_RETURN_IF_ERROR(table_->Adopt(std::move(*loader_), step_));
    loader_.reset();
    return {};
  });
}

Result<int64_t> WarmStartTable(const std::shared_ptr<Table>& table,
                               const std::vector<std::string>& dirs,
                               const WarmStartOptions& options, Env* env) {
  WarmStart warm_start(table);
  auto rows = warm_start.AddCheckpoint(dirs, options, env);
  if (rows.ok()) MXREC_RETURN_IF_ERROR(warm_start.Commit());
  return rows;
}

}  // namespace mxrec
