#include <functional>
#include <new>
#include <string>

#include "checkpoint/data_part.h"
#include "checkpoint/manifest.h"
#include "checkpoint/paths.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"

namespace mxrec {
namespace {

using checkpoint::Manifest;
using checkpoint::PartInfo;
using checkpoint::PartKind;
using checkpoint::PartReader;
using checkpoint::RowLayout;

Status CheckFits(const Table& table, const Manifest& manifest, const std::string& dir) {
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
  if (manifest.info.rows > table.capacity()) {
    return ResourceExhausted(subject + " has memory_rows " + std::to_string(table.capacity()) +
                             ", but the checkpoint " + dir + " holds " +
                             std::to_string(manifest.info.rows) +
                             " rows; restore into a table of at least that many memory_rows");
  }
  return {};
}

// Gives every block of the parts to `add`.
Status ReadParts(Env* env, const std::string& dir, const checkpoint::Uid& uid, PartKind kind,
                 const RowLayout& layout, const std::vector<PartInfo>& parts,
                 const std::function<Status(const RowBlock&)>& add) {
  RowBlock rows;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string path = checkpoint::JoinPath(dir, checkpoint::PartFile(kind, i));
    auto part = PartReader::Open(env, path, uid, static_cast<uint32_t>(i), layout, parts[i]);
    if (!part.ok()) return part.status();
    for (;;) {
      MXREC_RETURN_IF_ERROR(part.value()->Next(&rows));
      if (rows.size() == 0) break;
      if (Status added = add(rows); !added.ok()) {
        const uint64_t offset = part.value()->block_offset();
        if (added.code() == StatusCode::kDataLoss) {
          return checkpoint::Damaged(path, offset, added.message());
        }
        return {added.code(),
                path + ": block at byte " + std::to_string(offset) + ": " + added.message()};
      }
    }
  }
  return {};
}

// Replaces the rows of `table`; until Adopt it is only read.
Status RestoreRows(Table* table, const Manifest& manifest, const std::string& dir, Env* env) {
  MXREC_RETURN_IF_ERROR(CheckFits(*table, manifest, dir));
  auto loader = table->NewLoader(manifest.info.options.optimizer);
  if (!loader.ok()) return loader.status();
  checkpoint::Uid uid;
  if (!checkpoint::FromHex(manifest.info.uid, &uid)) return Internal("unchecked uid in a manifest");

  MXREC_RETURN_IF_ERROR(ReadParts(env, dir, uid, PartKind::kRows, manifest.layout(), manifest.parts,
                                  [&](const RowBlock& rows) { return loader.value().Add(rows); }));
  const AdmissionOptions& admission = manifest.info.options.admission;
  MXREC_RETURN_IF_ERROR(loader.value().SetAdmission(admission, manifest.info.admission_state));
  if (loader.value().takes_counts()) {
    MXREC_RETURN_IF_ERROR(
        ReadParts(env, dir, uid, PartKind::kCounts, checkpoint::CountLayout(admission.mode),
                  manifest.count_parts,
                  [&](const RowBlock& counts) { return loader.value().AddCounts(counts); }));
  }
  return table->Adopt(std::move(loader).value(), manifest.info.optimizer_step);
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

Result<CheckpointInfo> RestoreTable(Table* table, const std::string& dir, Env* env) try {
  auto manifest = checkpoint::ReadManifest(env, dir);
  if (!manifest.ok()) return manifest.status();
  MXREC_RETURN_IF_ERROR(RestoreRows(table, manifest.value(), dir, env));
  return std::move(manifest).value().info;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dir);
}

Result<std::shared_ptr<Table>> LoadTable(const std::string& dir, int num_shards, Env* env) try {
  auto manifest = checkpoint::ReadManifest(env, dir);
  if (!manifest.ok()) return manifest.status();
  TableOptions options = manifest.value().info.options;
  options.num_shards = num_shards;
  auto table = Table::Create(options);
  if (!table.ok()) return table.status();
  MXREC_RETURN_IF_ERROR(RestoreRows(table.value().get(), manifest.value(), dir, env));
  return table;
} catch (const std::bad_alloc&) {
  return OutOfMemory(dir);
}

}  // namespace mxrec
