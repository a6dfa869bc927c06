#include "checkpoint/save.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <new>
#include <optional>
#include <system_error>

#include "checkpoint/data_part.h"
#include "checkpoint/manifest.h"
#include "checkpoint/paths.h"
#include "mxrec/table.h"

namespace mxrec {
namespace checkpoint {
namespace {

Result<Uid> DrawUid() {
  Uid uid;
  if (::getentropy(uid.data(), uid.size()) != 0) {
    return IoError("cannot draw random bytes for a checkpoint's uid: " +
                   std::generic_category().message(errno));
  }
  return uid;
}

// A save deletes what it replaces: it must not be someone's directory of other things.
Status CheckReplaceable(Env* env, const std::string& dir) {
  auto names = env->List(dir);
  if (!names.ok()) return names.status();
  for (const std::string& name : names.value()) {
    if (name == kManifestFile || name.starts_with("data-") || name.starts_with("counts-")) continue;
    return AlreadyExists("dir " + dir + " holds '" + name +
                         "', which is no part of a checkpoint; saving would delete it. Choose "
                         "another directory or remove that one");
  }
  return {};
}

// Where the parts of one kind come from and go to.
struct PartSet {
  PartKind kind;
  RowLayout layout;
  std::function<Status(int64_t max_rows, RowBlock* rows)> scan;  // the next ones; empty at the end
  std::vector<PartInfo>* parts;
  uint64_t rows = 0;  // written
};

// All rows of the set, in as many parts as they need.
Status WriteParts(const Table& table, Env* env, const std::string& dir, const Uid& uid,
                  const SaveLimits& limits, PartSet* set) {
  const RowLayout& layout = set->layout;
  const uint64_t budget = std::min(limits.block_bytes, kMaxBlockPayload);
  const size_t block_rows = std::max<uint64_t>(1, budget / layout.bytes());
  std::unique_ptr<PartWriter> part;
  const auto finish = [&]() -> Status {
    auto done = part->Finish();
    if (!done.ok()) return done.status();
    set->parts->push_back(done.value());
    part.reset();
    return {};
  };

  RowBlock rows;
  for (;;) {
    MXREC_RETURN_IF_ERROR(set->scan(static_cast<int64_t>(block_rows), &rows));
    if (rows.size() == 0) break;
    if (rows.values.size() != rows.size() * layout.row_floats) {
      return FailedPrecondition("table '" + table.name() +
                                "' was given an optimizer while its save began; save again");
    }
    // A scan returns about as many rows as were asked for; a block has a hard limit.
    for (size_t begin = 0; begin < rows.size(); begin += block_rows) {
      if (!part) {
        const uint64_t number = set->parts->size();
        if (number == kMaxParts) {
          return ResourceExhausted("the checkpoint needs more than " + std::to_string(kMaxParts) +
                                   " data parts");
        }
        auto created = PartWriter::Create(env, JoinPath(dir, PartFile(set->kind, number)), uid,
                                          static_cast<uint32_t>(number), layout);
        if (!created.ok()) return created.status();
        part = std::move(created).value();
      }
      const size_t end = std::min(rows.size(), begin + block_rows);
      MXREC_RETURN_IF_ERROR(part->AddBlock(rows, begin, end));
      set->rows += end - begin;
      if (part->bytes() >= limits.part_bytes) MXREC_RETURN_IF_ERROR(finish());
    }
  }
  if (part) return finish();
  return {};
}

// Fills the new directory `dir`; the manifest comes last and makes it a checkpoint. Writers wait
// while rows are written; with *held Close waits for the caller.
Status WriteContents(const Table& table, Env* env, const std::string& dir, const Uid& uid,
                     const SaveLimits& limits, std::optional<Table::ReadLock>* held,
                     Manifest* manifest) try {
  MXREC_RETURN_IF_ERROR(env->CreateDir(dir));
  manifest->info.options = table.options();  // locks, so not under the lock below
  {
    auto lock = table.LockForRead();
    if (!lock.ok()) return lock.status();
    manifest->info.optimizer_step = table.optimizer_step();
    manifest->info.admission_state = table.admission_state(lock.value());
    ScanCursor cursor;
    PartSet rows{PartKind::kRows, manifest->layout(),
                 [&](int64_t most, RowBlock* block) {
                   return table.Scan(&cursor, most, block, &lock.value());
                 },
                 &manifest->parts};
    MXREC_RETURN_IF_ERROR(WriteParts(table, env, dir, uid, limits, &rows));
    manifest->info.rows = static_cast<int64_t>(rows.rows);
    ScanCursor count_cursor;
    PartSet counts{PartKind::kCounts, CountLayout(manifest->info.options.admission.mode),
                   [&](int64_t most, RowBlock* block) {
                     return table.ScanCounts(&count_cursor, most, block, lock.value());
                   },
                   &manifest->count_parts};
    if (manifest->info.options.admission.on()) {
      MXREC_RETURN_IF_ERROR(WriteParts(table, env, dir, uid, limits, &counts));
      manifest->counts = counts.rows;
    }
    lock.value().AllowChanges();
    held->emplace(std::move(lock).value());
  }
  const auto text = EncodeManifest(*manifest);
  if (!text.ok()) return text.status();
  auto file = env->NewWritableFile(JoinPath(dir, kManifestFile));
  if (!file.ok()) return file.status();
  MXREC_RETURN_IF_ERROR(file.value()->Append(text.value().data(), text.value().size()));
  MXREC_RETURN_IF_ERROR(file.value()->Sync());
  MXREC_RETURN_IF_ERROR(file.value()->Close());
  return env->SyncDir(dir);
} catch (const std::bad_alloc&) {
  return ResourceExhausted("out of memory while saving table '" + table.name() + "' to " + dir);
}

Status WithNote(const Status& status, const std::string& what, const Status& second) {
  return {status.code(), status.message() + "; moreover " + what + ": " + second.message()};
}

// Renames the finished `temporary` to `dir`. An error leaves `dir` as it was.
Status Install(Env* env, const std::string& temporary, const std::string& dir,
               const std::string& aside, bool replaces) {
  if (replaces) MXREC_RETURN_IF_ERROR(env->Rename(dir, aside));
  Status status = env->Rename(temporary, dir);
  if (status.ok()) {
    status = env->SyncDir(ParentOf(dir));
    if (status.ok()) return status;
    if (Status undone = env->Rename(dir, temporary); !undone.ok()) {
      return WithNote(status,
                      "the new checkpoint could not be taken back" +
                          (replaces ? ", the old one is " + aside : std::string()),
                      undone);
    }
  }
  if (replaces) {
    if (Status undone = env->Rename(aside, dir); !undone.ok()) {
      return WithNote(status, "the old checkpoint could not be put back, it is " + aside, undone);
    }
  }
  return status;
}

}  // namespace

Result<CheckpointInfo> SaveWithLimits(const Table& table, const std::string& dir, int64_t step,
                                      Env* env, const SaveLimits& limits) {
  const auto path = CheckpointPath(dir);
  if (!path.ok()) return path.status();
  const auto uid = DrawUid();
  if (!uid.ok()) return uid.status();
  const auto exists = env->Exists(path.value());
  if (!exists.ok()) return exists.status();
  if (exists.value()) {
    MXREC_RETURN_IF_ERROR(CheckReplaceable(env, path.value()));
    // What earlier saves replaced and could not delete. Without `path` it might be the only copy.
    const auto leftovers = ListAside(env, path.value());
    if (!leftovers.ok()) return leftovers.status();
    const auto complete = env->Exists(JoinPath(path.value(), kManifestFile));
    if (!complete.ok()) return complete.status();
    if (complete.value()) {
      for (const std::string& leftover : leftovers.value()) {
        MXREC_RETURN_IF_ERROR(env->DeleteTree(leftover));
      }
    }
  }

  Manifest manifest;
  manifest.info.uid = ToHex(uid.value());
  manifest.info.step = step;
  const std::string temporary = TemporaryPath(path.value(), manifest.info.uid);
  const std::string aside = AsidePath(path.value(), manifest.info.uid);
  std::optional<Table::ReadLock> lock;
  Status status = WriteContents(table, env, temporary, uid.value(), limits, &lock, &manifest);
  if (status.ok()) status = Install(env, temporary, path.value(), aside, exists.value());
  if (!status.ok()) {
    if (Status removed = env->DeleteTree(temporary); !removed.ok()) {
      status = WithNote(status, "the unfinished files could not be removed", removed);
    }
    return status;
  }
  if (exists.value()) {
    // The new checkpoint stands, so a failure is none of this save: the next one to `dir` deletes
    // the leftover, or reports why it cannot.
    const Status deferred = env->DeleteTree(aside);
    static_cast<void>(deferred);
  }
  return manifest.info;
}

}  // namespace checkpoint

Result<CheckpointInfo> SaveTable(const Table& table, const std::string& dir, int64_t step,
                                 Env* env) {
  return checkpoint::SaveWithLimits(table, dir, step, env, checkpoint::SaveLimits{});
}

}  // namespace mxrec
