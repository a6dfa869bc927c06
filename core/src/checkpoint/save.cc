#include "checkpoint/save.h"

#include "checkpoint/paths.h"
#include "checkpoint/write_contents.h"
#include "mxrec/table.h"

namespace mxrec {
namespace checkpoint {
namespace {

// A save deletes what it replaces: it must not be someone's directory of other things.
Status CheckReplaceable(Env* env, const std::string& dir) {
  auto names = env->List(dir);
  if (!names.ok()) return names.status();
  for (const std::string& name : names.value()) {
    const bool is_part = name.starts_with("data-") || name.starts_with("counts-") ||
                         name.starts_with("gone-") || name.starts_with("segment-");
    if (name == kManifestFile || is_part) continue;
    return AlreadyExists("dir " + dir + " holds '" + name +
                         "', which is no part of a checkpoint; saving would delete it. Choose "
                         "another directory or remove that one");
  }
  return {};
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

  auto snapshot = table.BeginSnapshot({});
  if (!snapshot.ok()) return snapshot.status();
  const std::string hex = ToHex(uid.value());
  const std::string temporary = TemporaryPath(path.value(), hex);
  const std::string aside = AsidePath(path.value(), hex);
  // Until it is ended, Close waits.
  auto manifest = WriteContents(&snapshot.value(), env, temporary, uid.value(), step, limits);
  Status status = manifest.status();
  if (status.ok()) status = Install(env, temporary, path.value(), aside, exists.value());
  if (!status.ok()) return Abandon(env, temporary, status);
  if (exists.value()) {
    // The new checkpoint stands, so a failure is none of this save: the next one to `dir` deletes
    // the leftover, or reports why it cannot.
    const Status deferred = env->DeleteTree(aside);
    static_cast<void>(deferred);
  }
  return manifest.value().info;
}

}  // namespace checkpoint

Env* DefaultEnv() { return Env::Default(); }

Result<CheckpointInfo> SaveTable(const Table& table, const std::string& dir, int64_t step,
                                 Env* env) {
  return checkpoint::SaveWithLimits(table, dir, step, env, checkpoint::SaveLimits{});
}

}  // namespace mxrec
