#include "checkpoint/manifest.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <limits>

#include "checkpoint/checksum.h"
#include "checkpoint/options_json.h"
#include "checkpoint/paths.h"

namespace mxrec::checkpoint {
namespace {

constexpr char kFormatName[] = "mxrec-checkpoint";
constexpr size_t kLineBytes = 10 + 16 + 1;  // "#xxh3-64: ", 16 digits, newline

std::string ChecksumLine(const char* text, size_t bytes) {
  char line[kLineBytes + 1];
  std::snprintf(line, sizeof(line), "#xxh3-64: %016llx\n",
                static_cast<unsigned long long>(Checksum(text, bytes)));
  return line;
}

constexpr const char* kTimeSources[] = {"none", "wall_clock", "timestamps"};

// Names of the fields of a kind of parts.
struct PartFields {
  const char* parts;
  const char* rows;
};
constexpr PartFields FieldsOf(PartKind kind) {
  constexpr PartFields kFields[] = {
      {"parts", "rows"}, {"count_parts", "counts"}, {"gone_parts", "gone"}};
  return kFields[static_cast<int>(kind)];
}

Json PartsJson(PartKind kind, const std::vector<PartInfo>& parts) {
  Json array = Json::array();
  for (size_t i = 0; i < parts.size(); ++i) {
    Json part;
    part["file"] = PartFile(kind, i);
    part["bytes"] = parts[i].bytes;
    part["rows"] = parts[i].rows;
    array.push_back(std::move(part));
  }
  return array;
}

void PutAdmission(const Manifest& manifest, Json* root) {
  const AdmissionState& state = manifest.info.admission_state;
  PutAdmissionOptions(manifest.info.options, root);
  Json& in_force = (*root)["admission_state"];
  in_force["threshold"] = state.threshold;
  in_force["frozen"] = state.frozen;
  in_force["latest_time"] = state.latest_time;
  in_force["time_source"] = kTimeSources[static_cast<int>(state.time_source)];
  (*root)["counts"] = manifest.counts;
  (*root)["count_parts"] = PartsJson(PartKind::kCounts, manifest.count_parts);
}

void GetAdmission(const FieldReader& root, Manifest* manifest) {
  AdmissionState& state = manifest->info.admission_state;
  GetAdmissionOptions(root, &manifest->info.options);
  const FieldReader in_force = root.Object("admission_state");
  state.threshold = in_force.Int("threshold", 1);
  state.frozen = in_force.Bool("frozen");
  state.latest_time =
      static_cast<uint32_t>(in_force.Int("latest_time", 0, std::numeric_limits<uint32_t>::max()));
  const std::string source = in_force.String("time_source");
  const auto found = std::find(std::begin(kTimeSources), std::end(kTimeSources), source);
  if (found == std::end(kTimeSources)) {
    in_force.Fail("time_source", "is '" + source + "', not one of none, wall_clock, timestamps");
    return;
  }
  state.time_source = static_cast<TimeSource>(found - std::begin(kTimeSources));
  manifest->counts = static_cast<uint64_t>(root.Int("counts", 0));
}

void PutDelta(const Manifest& manifest, Json* root) {
  Json& delta = (*root)["delta"];
  delta["parent"] = manifest.info.parent;
  delta["parent_step"] = manifest.info.parent_step;
  delta["left_out"] = manifest.info.left_out;
  delta["gone"] = manifest.info.gone;
  delta["gone_parts"] = PartsJson(PartKind::kGone, manifest.gone_parts);
}

void GetDelta(const FieldReader& root, Manifest* manifest) {
  const FieldReader delta = root.Object("delta");
  CheckpointInfo& info = manifest->info;
  info.parent = delta.String("parent");
  Uid uid;
  if (!FromHex(info.parent, &uid)) delta.Fail("parent", "is not 32 lower-case hexadecimal digits");
  if (info.parent == info.uid) delta.Fail("parent", "is the delta itself");
  info.parent_step = delta.Int("parent_step");
  info.left_out = delta.Int("left_out", 0);
  info.gone = delta.Int("gone", 0);
}

void PutSegments(const Manifest& manifest, Json* root) {
  Json& segments = (*root)["segments"];
  segments["bytes"] = manifest.segment_rows_bytes;
  Json& files = segments["files"] = Json::array();
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    const SegmentInfo& segment = manifest.segments[i];
    Json file;
    file["file"] = SegmentFile(i);
    file["bytes"] = segment.bytes;
    file["records"] = segment.records;
    file["rows"] = segment.rows;
    file["run"] = segment.run;
    file["segment"] = segment.id;
    files.push_back(std::move(file));
  }
}

void GetSegments(const FieldReader& root, Manifest* manifest) {
  const FieldReader segments = root.Object("segments");
  manifest->segment_rows_bytes = static_cast<uint64_t>(segments.Int("bytes", 1));
  const std::vector<FieldReader> files = segments.Array("files", kMaxParts);
  for (size_t i = 0; i < files.size(); ++i) {
    const FieldReader& file = files[i];
    if (file.String("file") != SegmentFile(i)) file.Fail("file", "is not " + SegmentFile(i));
    SegmentInfo segment;
    segment.bytes = static_cast<uint64_t>(file.Int("bytes", 1));
    segment.records = static_cast<uint64_t>(file.Int("records", 1, kMaxSegmentRecords));
    segment.rows = static_cast<uint64_t>(file.Int("rows", 0));
    if (segment.rows > segment.records) file.Fail("rows", "exceeds the records");
    segment.run = file.Uint64("run");
    segment.id = file.Uint64("segment");
    manifest->segments.push_back(segment);
  }
  if (files.empty()) segments.Fail("files", "is empty");
  if (manifest->segment_rows() > manifest->info.rows) {
    segments.Fail("files", "have more rows than the checkpoint");
  }
}

Status ReadParts(const FieldReader& root, PartKind kind, uint64_t rows,
                 std::vector<PartInfo>* parts) {
  const auto [parts_field, rows_field] = FieldsOf(kind);
  const std::vector<FieldReader> items = root.Array(parts_field, kMaxParts);
  uint64_t total = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    // Names are derived, not taken: a manifest cannot point outside its directory.
    const std::string file = PartFile(kind, i);
    if (items[i].String("file") != file) items[i].Fail("file", "is not " + file);
    PartInfo part;
    part.bytes = static_cast<uint64_t>(items[i].Int("bytes", 0));
    part.rows = static_cast<uint64_t>(items[i].Int("rows", 1));
    parts->push_back(part);
    if (part.rows > rows - total) items[i].Fail("rows", "exceeds the rows of the checkpoint");
    MXREC_RETURN_IF_ERROR(root.status());
    total += part.rows;
  }
  if (total != rows) {
    root.Fail(rows_field, "is not the sum over its parts, " + std::to_string(total));
  }
  return root.status();
}

}  // namespace

RowLayout Manifest::layout() const {
  const auto dim = static_cast<uint32_t>(info.options.dim);
  const auto slots = static_cast<uint32_t>(SlotCount(info.options.optimizer.kind));
  return {.row_floats = dim * (1 + slots), .dim = dim, .type = info.options.value_type};
}

int64_t Manifest::segment_rows() const {
  uint64_t rows = 0;  // no more than 2^31 of each segment
  for (const SegmentInfo& segment : segments) rows += segment.rows;
  return static_cast<int64_t>(rows);
}

uint32_t Manifest::version() const {
  if (!segments.empty()) return kSegmentsVersion;
  if (is_delta()) return kDeltaVersion;
  return has_admission() ? kAdmissionVersion : layout().version();
}

uint64_t Manifest::BytesWith(uint64_t manifest_bytes) const {
  uint64_t bytes = manifest_bytes + segment_rows_bytes;
  for (const SegmentInfo& segment : segments) bytes += segment.bytes;
  for (const auto* kind : {&parts, &count_parts, &gone_parts}) {
    for (const PartInfo& part : *kind) bytes += part.bytes;
  }
  return bytes;
}

Result<std::string> EncodeManifest(const Manifest& manifest) {
  const CheckpointInfo& info = manifest.info;
  Json root;
  root["format"] = kFormatName;
  root["version"] = manifest.version();
  root["uid"] = info.uid;
  root["step"] = info.step;
  root["rows"] = info.rows;
  root["optimizer_step"] = info.optimizer_step;
  root["row_floats"] = manifest.layout().row_floats;
  root["slots"] = SlotNames(info.options.optimizer.kind);
  PutTableOptions(info.options, &root);
  root["parts"] = PartsJson(PartKind::kRows, manifest.parts);
  if (manifest.has_admission()) PutAdmission(manifest, &root);
  if (manifest.is_delta()) PutDelta(manifest, &root);
  if (!manifest.segments.empty()) PutSegments(manifest, &root);

  std::string text;
  try {
    text = root.dump(1) + "\n";
  } catch (const Json::type_error&) {
    return InvalidArgument(
        "the table's name is not valid UTF-8, which a checkpoint cannot hold; create the table "
        "with a UTF-8 name");
  }
  text += ChecksumLine(text.data(), text.size());
  if (text.size() > kMaxManifestBytes) {
    return InvalidArgument("the manifest would have " + std::to_string(text.size()) +
                           " bytes, more than " + std::to_string(kMaxManifestBytes) +
                           "; the table has " + std::to_string(info.options.padding_keys.size()) +
                           " padding_keys, give it fewer");
  }
  return text;
}

Result<Manifest> DecodeManifest(const std::string& text, const std::string& path) {
  if (text.size() < kLineBytes) {
    return Damaged(path, text.size(), "the file ends before its checksum line is complete");
  }
  const size_t body = text.size() - kLineBytes;
  const char* line = text.data() + body;
  if (std::memcmp(line, "#xxh3-64: ", 10) != 0) {
    return Damaged(path, body, "there is no checksum line at the end of the file");
  }
  if (ChecksumLine(text.data(), body).compare(0, kLineBytes, line, kLineBytes) != 0) {
    return Damaged(
        path, 0,
        "the checksum of bytes 0 to " + std::to_string(body) + " does not match the last line");
  }

  // Text with a right checksum may still come from another program, so every field is checked.
  const Json json = Json::parse(text.data(), text.data() + body, nullptr, false);
  Status status;
  const FieldReader root(&json, path, "", &status);
  if (json.is_discarded() || !json.is_object())
    return Damaged(path, 0, "this is not a JSON object");
  if (root.String("format") != kFormatName) {
    root.Fail("format", std::string("is not \"") + kFormatName + "\"");
  }
  const int64_t version = root.Int("version", 1);
  MXREC_RETURN_IF_ERROR(status);
  if (version > kFormatVersion) {
    return FailedPrecondition(path + ": format version " + std::to_string(version) +
                              ", this program reads versions up to " +
                              std::to_string(kFormatVersion) +
                              "; use the mxrec that wrote it or a newer one");
  }

  Manifest manifest;
  CheckpointInfo& info = manifest.info;
  info.uid = root.String("uid");
  Uid uid;
  if (!FromHex(info.uid, &uid)) root.Fail("uid", "is not 32 lower-case hexadecimal digits");
  info.step = root.Int("step");
  info.rows = root.Int("rows", 0);
  info.optimizer_step = root.Int("optimizer_step", 0);
  const int64_t row_floats = root.Int("row_floats", 1);
  GetTableOptions(root, &info.options);
  const bool has_admission =
      version == kAdmissionVersion || (version >= kDeltaVersion && root.Has("admission"));
  if (has_admission) GetAdmission(root, &manifest);
  const bool is_delta =
      version == kDeltaVersion || (version == kSegmentsVersion && root.Has("delta"));
  if (is_delta) GetDelta(root, &manifest);
  if (version == kSegmentsVersion) GetSegments(root, &manifest);
  MXREC_RETURN_IF_ERROR(status);
  if (Status valid = Validate(info.options); !valid.ok()) return Damaged(path, 0, valid.message());
  const RowLayout layout = manifest.layout();
  if (has_admission && !manifest.has_admission()) {
    root.Fail("admission", "and eviction are off, which is no version 3");
  } else if (version != manifest.version()) {
    root.Fail("table.value_dtype", std::string("is ") + ValueTypeName(layout.type) +
                                       ", which version " + std::to_string(version) + " has not");
  }
  if (row_floats != layout.row_floats) {
    root.Fail("row_floats", "is not " + std::to_string(layout.row_floats));
  }
  if (root.Strings("slots") != SlotNames(info.options.optimizer.kind)) {
    root.Fail("slots", "are not those of the optimizer");
  }
  MXREC_RETURN_IF_ERROR(ReadParts(root, PartKind::kRows,
                                  static_cast<uint64_t>(info.rows - manifest.segment_rows()),
                                  &manifest.parts));
  if (has_admission) {
    MXREC_RETURN_IF_ERROR(
        ReadParts(root, PartKind::kCounts, manifest.counts, &manifest.count_parts));
  }
  if (manifest.is_delta()) {
    MXREC_RETURN_IF_ERROR(ReadParts(root.Object("delta"), PartKind::kGone,
                                    static_cast<uint64_t>(info.gone), &manifest.gone_parts));
  }
  info.bytes = manifest.BytesWith(text.size());
  return manifest;
}

Result<Manifest> ReadManifest(Env* env, const std::string& dir) {
  const std::string path = JoinPath(dir, kManifestFile);
  auto file = env->NewReadableFile(path);
  if (!file.ok()) {
    if (file.status().code() != StatusCode::kNotFound) return file.status();
    return NotFound("there is no checkpoint in " + dir + ": it has no file 'manifest'" +
                    InterruptedSaveHint(env, dir));
  }
  auto size = file.value()->Size();
  if (!size.ok()) return size.status();
  if (size.value() > kMaxManifestBytes) {
    return Damaged(path, kMaxManifestBytes, "a manifest does not go on here");
  }
  std::string text(size.value(), '\0');
  auto read = file.value()->Read(0, text.size(), text.data());
  if (!read.ok()) return read.status();
  if (read.value() != text.size()) return Damaged(path, read.value(), "the file ends here");
  return DecodeManifest(text, path);
}

}  // namespace mxrec::checkpoint
