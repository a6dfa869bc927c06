#include "checkpoint/restore.h"

#include <algorithm>
#include <functional>
#include <new>
#include <string>

#include "checkpoint/checksum.h"
#include "checkpoint/data_part.h"
#include "checkpoint/manifest.h"
#include "checkpoint/paths.h"
#include "checkpoint/read_ahead.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/capacity_text.h"

namespace mxrec {
namespace {

using checkpoint::Manifest;
using checkpoint::PartInfo;
using checkpoint::PartKind;
using checkpoint::PartReader;
using checkpoint::RowLayout;

// alone: it is no part of a chain, of which the last rows count, which Adopt compares.
Status CheckFits(const Table& table, const Manifest& manifest, const std::string& dir, bool alone) {
  const TableOptions& saved = manifest.info.options;
  const std::string subject = "table '" + table.name() + "'";
  if (saved.dim != table.dim()) {
    return InvalidArgument(subject + " has dim " + std::to_string(table.dim()) +
                           ", but the checkpoint " + dir + " has dim " + std::to_string(saved.dim) +
                           "; restore into a table of dim " + std::to_string(saved.dim));
  }
  const OptimizerKind bound = table.options().optimizer.kind;
  if (saved.optimizer.kind != bound && saved.optimizer.kind != OptimizerKind::kNone &&
      bound != OptimizerKind::kNone) {
    const std::string wanted = OptimizerName(saved.optimizer.kind);
    return FailedPrecondition(subject + " has the optimizer " + OptimizerName(bound) +
                              ", but the checkpoint " + dir + " holds slots of " + wanted +
                              "; restore into a table with " + wanted);
  }
  if (alone && manifest.info.rows > table.capacity()) {
    return ResourceExhausted(subject + " has " + SizesOf(table.options()) +
                             ", but the checkpoint " + dir + " holds " +
                             std::to_string(manifest.info.rows) +
                             " rows; restore into a table of at least that many: raise " +
                             SizesToRaise(table.options().ssd_rows > 0));
  }
  return {};
}

}  // namespace

namespace {

using AddRows = std::function<Status(const RowBlock&)>;

// Every block of a PartReader or a SegmentReader.
template <class Reader>
Status ReadBlocks(Reader* reader, const std::string& path, const AddRows& add) {
  struct Block {
    RowBlock rows;
    uint64_t offset = 0;
    size_t size() const { return rows.size(); }
    void clear() { rows.clear(); }
  };
  checkpoint::ReadAhead<Block> source([&](Block* next) {
    const Status status = reader->Next(&next->rows);
    next->offset = reader->block_offset();
    return status;
  });
  Block block;
  for (;;) {
    MXREC_RETURN_IF_ERROR(source.Next(&block));
    if (block.size() == 0) return {};
    const Status added = add(block.rows);
    if (added.ok()) continue;
    if (added.code() == StatusCode::kDataLoss) {
      return checkpoint::Damaged(path, block.offset, added.message());
    }
    return {added.code(),
            path + ": block at byte " + std::to_string(block.offset) + ": " + added.message()};
  }
}

}  // namespace

Status checkpoint::ReadParts(Env* env, const std::string& dir, const Uid& uid, PartKind kind,
                             const RowLayout& layout, const std::vector<PartInfo>& parts,
                             const AddRows& add) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string path = JoinPath(dir, PartFile(kind, i));
    auto part = PartReader::Open(env, path, uid, static_cast<uint32_t>(i), layout, parts[i]);
    if (!part.ok()) return part.status();
    MXREC_RETURN_IF_ERROR(ReadBlocks(part.value().get(), path, add));
  }
  return {};
}

Status checkpoint::ReadRows(Env* env, const std::string& dir, const Uid& uid,
                            const Manifest& manifest, const AddRows& add) {
  MXREC_RETURN_IF_ERROR(
      ReadParts(env, dir, uid, PartKind::kRows, manifest.layout(), manifest.parts, add));
  if (manifest.segments.empty()) return {};
  const auto bits = ReadSegmentRows(env, dir, uid, manifest.segments, manifest.segment_rows_bytes);
  if (!bits.ok()) return bits.status();
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    const std::string path = JoinPath(dir, SegmentFile(i));
    auto segment = SegmentReader::Open(env, path, manifest.info.options, manifest.segments[i],
                                       &bits.value()[i]);
    if (!segment.ok()) return segment.status();
    MXREC_RETURN_IF_ERROR(ReadBlocks(segment.value().get(), path, add));
  }
  return {};
}

namespace {

// A manifest and where it lies.
struct Link {
  std::string dir;
  Manifest manifest;
};

// Rows of a full checkpoint, as far as its files are large enough for them: what a manifest says
// takes no memory.
Result<int64_t> CountRows(Env* env, const Link& link) {
  const Manifest& manifest = link.manifest;
  uint64_t bytes = 0;
  const auto add = [&](const std::string& name) -> Status {
    const auto file = env->NewReadableFile(checkpoint::JoinPath(link.dir, name));
    if (file.status().code() == StatusCode::kNotFound) return {};  // the reader says so
    if (!file.ok()) return file.status();
    const auto size = file.value()->Size();
    if (!size.ok()) return size.status();
    bytes += size.value();
    return {};
  };
  for (size_t i = 0; i < manifest.parts.size(); ++i) {
    MXREC_RETURN_IF_ERROR(add(checkpoint::PartFile(PartKind::kRows, i)));
  }
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    MXREC_RETURN_IF_ERROR(add(checkpoint::SegmentFile(i)));
  }
  return std::min(manifest.info.rows, static_cast<int64_t>(bytes / manifest.layout().bytes()));
}

Status AddLink(Env* env, const Link& link, RowLoader* loader) {
  const auto& [dir, manifest] = link;
  checkpoint::Uid uid;
  if (!checkpoint::FromHex(manifest.info.uid, &uid)) return Internal("unchecked uid in a manifest");
  if (manifest.is_delta()) {
    loader->BeginLink();
    MXREC_RETURN_IF_ERROR(
        ReadParts(env, dir, uid, PartKind::kGone, checkpoint::kGoneLayout, manifest.gone_parts,
                  [&](const RowBlock& gone) { return loader->Erase(gone.keys); }));
  }
  MXREC_RETURN_IF_ERROR(checkpoint::ReadRows(
      env, dir, uid, manifest, [&](const RowBlock& rows) { return loader->Add(rows); }));
  const AdmissionOptions& admission = manifest.info.options.admission;
  MXREC_RETURN_IF_ERROR(loader->SetAdmission(admission, manifest.info.admission_state));
  if (!loader->takes_counts()) return {};
  return ReadParts(env, dir, uid, PartKind::kCounts, checkpoint::CountLayout(admission.mode),
                   manifest.count_parts,
                   [&](const RowBlock& counts) { return loader->AddCounts(counts); });
}

Status BrokenChain(const Link& link, const std::string& what) {
  return DataLoss(link.dir + ": " + what);
}

// Manifests of a chain, which fit together.
Result<std::vector<Link>> ReadChain(Env* env, const std::vector<std::string>& dirs) {
  if (dirs.empty()) return InvalidArgument("dirs is empty; name a full checkpoint and its deltas");
  std::vector<Link> links;
  for (const std::string& dir : dirs) {
    auto manifest = checkpoint::ReadManifest(env, dir);
    if (!manifest.ok()) return manifest.status();
    links.push_back({dir, std::move(manifest).value()});
  }
  const Manifest& full = links[0].manifest;
  if (full.is_delta()) {
    return BrokenChain(links[0], "this is a delta to the version " + full.info.parent +
                                     " of step " + std::to_string(full.info.parent_step) +
                                     "; restore that and those before it as well");
  }
  for (size_t i = 1; i < links.size(); ++i) {
    const Manifest& before = links[i - 1].manifest;
    const Manifest& link = links[i].manifest;
    if (link.info.parent != before.info.uid) {
      const std::string own = link.is_delta()
                                  ? "a delta to the version " + link.info.parent + " of step " +
                                        std::to_string(link.info.parent_step)
                                  : std::string("a full checkpoint");
      return BrokenChain(links[i], "this is " + own + ", but before it comes " + links[i - 1].dir +
                                       " with the version " + before.info.uid + " of step " +
                                       std::to_string(before.info.step));
    }
    if (link.layout() != full.layout()) {
      return BrokenChain(links[i], "its rows are not those of " + links[0].dir +
                                       ": dim, slots or value type differ");
    }
  }
  return links;
}

// Replaces the rows of `table`; until Adopt it is only read.
Status RestoreRows(Table* table, const std::vector<Link>& links, const RestoreOptions& options,
                   Env* env) {
  const CheckpointInfo& last = links.back().manifest.info;
  for (const Link& link : links) {
    MXREC_RETURN_IF_ERROR(CheckFits(*table, link.manifest, link.dir, links.size() == 1));
  }
  auto loader = table->NewLoader(last.options.optimizer);
  if (!loader.ok()) return loader.status();
  const auto rows = CountRows(env, links[0]);
  if (!rows.ok()) return rows.status();
  MXREC_RETURN_IF_ERROR(loader.value().Reserve(rows.value()));
  for (const Link& link : links) MXREC_RETURN_IF_ERROR(AddLink(env, link, &loader.value()));
  Lineage lineage;
  if (options.tracks) lineage = {last.uid, last.step, options.counts_recent};
  return table->Adopt(std::move(loader).value(), last.optimizer_step, lineage);
}

Status OutOfMemory(const std::string& dir) {
  return ResourceExhausted("out of memory while reading the checkpoint " + dir);
}

}  // namespace

Result<CheckpointInfo> ReadCheckpointInfo(const std::string& dir, Env* env) try {
  auto manifest = checkpoint::ReadManifest(env, dir);
  if (!manifest.ok()) return manifest.status();
  return std::move(manifest).value().info;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dir);
}

Result<CheckpointInfo> RestoreTable(Table* table, const std::vector<std::string>& dirs,
                                    const RestoreOptions& options, Env* env) try {
  auto links = ReadChain(env, dirs);
  if (!links.ok()) return links.status();
  MXREC_RETURN_IF_ERROR(RestoreRows(table, links.value(), options, env));
  return std::move(links).value().back().manifest.info;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dirs.back());
}

Result<CheckpointInfo> RestoreTable(Table* table, const std::string& dir, Env* env) {
  return RestoreTable(table, std::vector{dir}, {}, env);
}

Result<std::shared_ptr<Table>> LoadTable(const std::vector<std::string>& dirs, int num_shards,
                                         Env* env) try {
  auto links = ReadChain(env, dirs);
  if (!links.ok()) return links.status();
  TableOptions options = links.value().back().manifest.info.options;
  options.num_shards = num_shards;
  auto table = Table::Create(options);
  if (!table.ok()) return table.status();
  MXREC_RETURN_IF_ERROR(RestoreRows(table.value().get(), links.value(), {}, env));
  return table;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dirs.back());
}

Result<std::shared_ptr<Table>> LoadTable(const std::string& dir, int num_shards, Env* env) {
  return LoadTable(std::vector{dir}, num_shards, env);
}

Result<CheckpointInfo> VerifyCheckpoint(const std::string& dir, Env* env) try {
  auto manifest = checkpoint::ReadManifest(env, dir);
  if (!manifest.ok()) return manifest.status();
  const Manifest& found = manifest.value();
  checkpoint::Uid uid;
  if (!checkpoint::FromHex(found.info.uid, &uid)) return Internal("unchecked uid in a manifest");
  const auto read = [&](PartKind kind, const RowLayout& layout,
                        const std::vector<PartInfo>& parts) {
    return ReadParts(env, dir, uid, kind, layout, parts, [](const RowBlock&) { return Status(); });
  };
  MXREC_RETURN_IF_ERROR(
      checkpoint::ReadRows(env, dir, uid, found, [](const RowBlock&) { return Status(); }));
  const AdmissionMode mode = found.info.options.admission.mode;
  MXREC_RETURN_IF_ERROR(read(PartKind::kCounts, checkpoint::CountLayout(mode), found.count_parts));
  MXREC_RETURN_IF_ERROR(read(PartKind::kGone, checkpoint::kGoneLayout, found.gone_parts));
  return found.info;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dir);
}

uint64_t Checksum(std::span<const char> data) {
  return checkpoint::Checksum(data.data(), data.size());
}

}  // namespace mxrec
