#include "checkpoint/write_contents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <optional>
#include <system_error>

#include "checkpoint/data_part.h"
#include "checkpoint/paths.h"
#include "checkpoint/read_ahead.h"
#include "checkpoint/segment_part.h"
#include "util/background_thread.h"

namespace mxrec {
namespace checkpoint {

Result<Uid> DrawUid() {
  Uid uid;
  if (::getentropy(uid.data(), uid.size()) != 0) {
    return IoError("cannot draw random bytes for a checkpoint's uid: " +
                   std::generic_category().message(errno));
  }
  return uid;
}

namespace {

// Where the parts of one kind come from and go to.
struct PartSet {
  PartKind kind;
  RowLayout layout;
  std::function<Status(int64_t max_rows, RowBlock* rows)> scan;  // the next ones; empty at the end
  std::vector<PartInfo>* parts;
  uint64_t rows = 0;  // written
};

// All rows of the set, in as many parts as they need.
Status WriteParts(Env* env, const std::string& dir, const Uid& uid, const SaveLimits& limits,
                  PartSet* set) {
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

  ReadAhead<RowBlock> source(
      [&](RowBlock* rows) { return set->scan(static_cast<int64_t>(block_rows), rows); }, true);
  RowBlock rows;
  for (;;) {
    MXREC_RETURN_IF_ERROR(source.Next(&rows));
    if (rows.size() == 0) break;
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

// Keys as rows that have nothing else.
Status WriteGone(Snapshot* snapshot, Env* env, const std::string& dir, const Uid& uid,
                 const SaveLimits& limits, Manifest* manifest) {
  std::vector<int64_t> keys;
  MXREC_RETURN_IF_ERROR(snapshot->Gone(&keys));
  size_t next = 0;
  PartSet gone{PartKind::kGone, kGoneLayout,
               [&](int64_t most, RowBlock* block) {
                 const size_t n = std::min(keys.size() - next, static_cast<size_t>(most));
                 block->keys.assign(keys.begin() + static_cast<ptrdiff_t>(next),
                                    keys.begin() + static_cast<ptrdiff_t>(next + n));
                 block->frequency.assign(n, 0);
                 block->last_time.assign(n, 0);
                 next += n;
                 return Status();
               },
               &manifest->gone_parts};
  MXREC_RETURN_IF_ERROR(WriteParts(env, dir, uid, limits, &gone));
  manifest->info.gone = static_cast<int64_t>(gone.rows);
  return {};
}

// Files of the SSD tier that are taken as they are, where the checkpoint is on their file system.
Status LinkSegments(Snapshot* snapshot, Env* env, const std::string& dir, const Uid& uid,
                    Manifest* manifest) {
  std::vector<SnapshotSegment> segments;
  MXREC_RETURN_IF_ERROR(snapshot->LinkSegments(
      [&](const std::string& file, size_t number) -> Result<bool> {
        if (number == kMaxParts) return false;
        return env->Link(file, JoinPath(dir, SegmentFile(number)));
      },
      &segments));
  if (segments.empty()) return {};
  const auto bytes = WriteSegmentRows(env, dir, uid, segments);
  if (!bytes.ok()) return bytes.status();
  manifest->segment_rows_bytes = bytes.value();
  for (const SnapshotSegment& segment : segments) {
    manifest->segments.push_back({.bytes = segment.bytes,
                                  .records = segment.records,
                                  .rows = static_cast<uint64_t>(segment.rows),
                                  .run = segment.run,
                                  .id = segment.id});
  }
  return {};
}

Status WriteManifest(Env* env, const std::string& dir, Manifest* manifest) {
  const auto text = EncodeManifest(*manifest);
  if (!text.ok()) return text.status();
  auto file = env->NewWritableFile(JoinPath(dir, kManifestFile));
  if (!file.ok()) return file.status();
  MXREC_RETURN_IF_ERROR(file.value()->Append(text.value().data(), text.value().size()));
  MXREC_RETURN_IF_ERROR(file.value()->Sync());
  MXREC_RETURN_IF_ERROR(file.value()->Close());
  manifest->info.bytes = manifest->BytesWith(text.value().size());
  return env->SyncDir(dir);
}

}  // namespace

Result<Manifest> WriteContents(Snapshot* snapshot, Env* env, const std::string& dir, const Uid& uid,
                               int64_t step, const SaveLimits& limits) try {
  Manifest manifest;
  manifest.info.uid = ToHex(uid);
  manifest.info.step = step;
  manifest.info.options = snapshot->options();
  manifest.info.optimizer_step = snapshot->optimizer_step();
  manifest.info.admission_state = snapshot->admission_state();
  manifest.info.parent = snapshot->wanted().parent;
  if (manifest.is_delta()) manifest.info.parent_step = snapshot->parent_step();
  MXREC_RETURN_IF_ERROR(env->CreateDir(dir));

  MXREC_RETURN_IF_ERROR(LinkSegments(snapshot, env, dir, uid, &manifest));
  PartSet rows{PartKind::kRows, manifest.layout(),
               [&](int64_t most, RowBlock* block) { return snapshot->Scan(most, block); },
               &manifest.parts};
  MXREC_RETURN_IF_ERROR(WriteParts(env, dir, uid, limits, &rows));
  manifest.info.rows = static_cast<int64_t>(rows.rows) + manifest.segment_rows();
  if (manifest.info.options.admission.on()) {
    PartSet counts{PartKind::kCounts, CountLayout(manifest.info.options.admission.mode),
                   [&](int64_t most, RowBlock* block) { return snapshot->ScanCounts(most, block); },
                   &manifest.count_parts};
    MXREC_RETURN_IF_ERROR(WriteParts(env, dir, uid, limits, &counts));
    manifest.counts = counts.rows;
  }
  if (manifest.is_delta()) {
    MXREC_RETURN_IF_ERROR(WriteGone(snapshot, env, dir, uid, limits, &manifest));
    manifest.info.left_out = snapshot->left_out();
  }
  MXREC_RETURN_IF_ERROR(WriteManifest(env, dir, &manifest));
  return manifest;
} catch (const std::bad_alloc&) {
  return ResourceExhausted("out of memory while saving table '" + snapshot->table_name() + "' to " +
                           dir);
}

Status Abandon(Env* env, const std::string& dir, const Status& status) {
  const Status removed = env->DeleteTree(dir);
  if (removed.ok()) return status;
  return WithNote(status, "the unfinished files could not be removed", removed);
}

Status WithNote(const Status& status, const std::string& what, const Status& second) {
  return {status.code(), status.message() + "; moreover " + what + ": " + second.message()};
}

}  // namespace checkpoint

Result<CheckpointInfo> WriteSnapshot(Snapshot* snapshot, const std::string& dir, int64_t step,
                                     Env* env) {
  using namespace checkpoint;
  const auto path = CheckpointPath(dir);
  if (!path.ok()) return path.status();
  const auto exists = env->Exists(path.value());
  if (!exists.ok()) return exists.status();
  if (exists.value()) {
    return AlreadyExists("dir " + dir + " is there already; write a snapshot to a new directory");
  }
  const auto uid = DrawUid();
  if (!uid.ok()) return uid.status();
  Result<Manifest> manifest = Internal("nothing has been written");
  RunYielding([&] {
    manifest = WriteContents(snapshot, env, path.value(), uid.value(), step, SaveLimits{});
  });
  Status status = manifest.status();
  if (status.ok()) status = env->SyncDir(ParentOf(path.value()));
  if (status.ok()) return std::move(manifest).value().info;
  return Abandon(env, path.value(), status);
}

}  // namespace mxrec
