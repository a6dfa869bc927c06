#include "mxrec/warm_start.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <new>
#include <utility>

#include "checkpoint/manifest.h"
#include "checkpoint/restore.h"

namespace mxrec {
namespace {

using checkpoint::Manifest;

constexpr int64_t kBlockRows = 65'536;

using AddRows = std::function<Status(const RowBlock&)>;

// All rows of a saved table, block by block.
Status ReadRows(Env* env, const std::string& dir, const Manifest& manifest, const AddRows& add) {
  checkpoint::Uid uid;
  if (!checkpoint::FromHex(manifest.info.uid, &uid)) return Internal("unchecked uid in a manifest");
  return ReadParts(env, dir, uid, checkpoint::PartKind::kRows, manifest.layout(), manifest.parts,
                   add);
}

Status CheckFits(const Table& table, const CheckpointInfo& info, const std::string& dir,
                 const WarmStartOptions& options) {
  const std::string subject = "table '" + table.name() + "'";
  if (info.options.dim != table.dim()) {
    return InvalidArgument(subject + " has dim " + std::to_string(table.dim()) + ", but " + dir +
                           " has dim " + std::to_string(info.options.dim) +
                           "; warm-start a table of dim " + std::to_string(info.options.dim));
  }
  if (options.mode == WarmStartMode::kReplace && info.rows > table.capacity()) {
    return ResourceExhausted(subject + " has memory_rows " + std::to_string(table.capacity()) +
                             ", but " + dir + " holds " + std::to_string(info.rows) +
                             " rows; raise memory_rows (device_vocabulary_size or "
                             "host_vocabulary_size of create_table)");
  }
  return {};
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

Result<int64_t> WarmStart::AddCheckpoint(const std::string& dir, const WarmStartOptions& options,
                                         Env* env) {
  return Guarded([&]() -> Result<int64_t> {
    const auto manifest = checkpoint::ReadManifest(env, dir);
    if (!manifest.ok()) return manifest.status();
    const CheckpointInfo& info = manifest.value().info;
    MXREC_RETURN_IF_ERROR(CheckFits(*table_, info, dir, options));
    OptimizerOptions kept;  // none
    if (options.slots == WarmStartSlots::kKeep) kept = info.options.optimizer;
    // Of a table without an optimizer: that of the sources before this one.
    const OptimizerKind bound = table_->options().optimizer.kind;
    const bool fixed = bound != OptimizerKind::kNone || options.mode == WarmStartMode::kMerge;
    const OptimizerKind wanted = bound != OptimizerKind::kNone ? bound : kind_;
    if (fixed && kept.kind != OptimizerKind::kNone && wanted != OptimizerKind::kNone &&
        kept.kind != wanted) {
      return FailedPrecondition("table '" + table_->name() + "' has slots of " +
                                OptimizerName(wanted) + ", but " + dir + " holds slots of " +
                                OptimizerName(kept.kind) +
                                "; reset the slots, or use the same optimizer");
    }
    MXREC_RETURN_IF_ERROR(Begin(options, kept));
    const int width = static_cast<int>(manifest.value().layout().row_floats);
    const auto slots =
        kept.kind == OptimizerKind::kNone ? RowLoader::Slots::kFresh : RowLoader::Slots::kTake;
    const auto present = options.mode == WarmStartMode::kReplace ? RowLoader::Present::kRefuse
                                                                 : RowLoader::Present::kReplace;
    MXREC_RETURN_IF_ERROR(ReadRows(env, dir, manifest.value(), [&](const RowBlock& rows) -> Status {
      MXREC_RETURN_IF_ERROR(CheckKeys(*table_, rows, options));
      return loader_->Put(rows, width, slots, present);
    }));
    if (kept.kind != OptimizerKind::kNone) step_ = std::max(step_, info.optimizer_step);
    return info.rows;
  });
}

Result<int64_t> WarmStart::AddMatrix(const float* values, int64_t rows,
                                     const WarmStartOptions& options) {
  return Guarded([&]() -> Result<int64_t> {
    if (options.mode == WarmStartMode::kReplace && rows > table_->capacity()) {
      return ResourceExhausted("table '" + table_->name() + "' has memory_rows " +
                               std::to_string(table_->capacity()) + ", but the matrix has " +
                               std::to_string(rows) +
                               " rows; raise memory_rows "
                               "(device_vocabulary_size or host_vocabulary_size of create_table)");
    }
    MXREC_RETURN_IF_ERROR(Begin(options, {}));
    const int dim = table_->dim();
    RowBlock block;
    for (int64_t begin = 0; begin < rows; begin += kBlockRows) {
      const int64_t end = std::min(rows, begin + kBlockRows);
      block.keys.clear();
      for (int64_t key = begin; key < end; ++key) block.keys.push_back(key);
      block.values.assign(values + begin * dim, values + end * dim);
      MXREC_RETURN_IF_ERROR(CheckKeys(*table_, block, options));
      MXREC_RETURN_IF_ERROR(
          loader_->Put(block, dim, RowLoader::Slots::kFresh, RowLoader::Present::kReplace));
    }
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

Result<int64_t> WarmStartTable(const std::shared_ptr<Table>& table, const std::string& dir,
                               const WarmStartOptions& options, Env* env) {
  WarmStart warm_start(table);
  auto rows = warm_start.AddCheckpoint(dir, options, env);
  if (rows.ok()) MXREC_RETURN_IF_ERROR(warm_start.Commit());
  return rows;
}

}  // namespace mxrec
