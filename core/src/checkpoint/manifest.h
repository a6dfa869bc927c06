// Manifest: the small file that makes a directory of data parts a checkpoint.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/data_part.h"
#include "checkpoint/format.h"
#include "checkpoint/segment_part.h"
#include "mxrec/checkpoint.h"

namespace mxrec::checkpoint {

struct Manifest {
  CheckpointInfo info;
  std::vector<PartInfo> parts;        // i is in PartFile(PartKind::kRows, i)
  std::vector<PartInfo> count_parts;  // i is in PartFile(PartKind::kCounts, i)
  uint64_t counts = 0;                // rows in them
  std::vector<PartInfo> gone_parts;   // of a delta; i is in PartFile(PartKind::kGone, i)
  std::vector<SegmentInfo> segments;  // i is in SegmentFile(i)
  uint64_t segment_rows_bytes = 0;    // of kSegmentRowsFile; 0: there are no segments

  bool is_delta() const { return !info.parent.empty(); }
  bool has_admission() const { return info.options.admission.on() || info.options.eviction.on(); }
  uint32_t version() const;
  int64_t segment_rows() const;                       // of info.rows, those in segments
  uint64_t BytesWith(uint64_t manifest_bytes) const;  // of all files

  // Of the saved rows: the embedding and the slots of the saved optimizer.
  RowLayout layout() const;
};

// The file's text, checksum line included. kInvalidArgument: a name that is not UTF-8.
Result<std::string> EncodeManifest(const Manifest& manifest);
// `path` is for messages. Whatever is wrong is kDataLoss; a newer version kFailedPrecondition.
Result<Manifest> DecodeManifest(const std::string& text, const std::string& path);
// kNotFound when the directory has none.
Result<Manifest> ReadManifest(Env* env, const std::string& dir);

}  // namespace mxrec::checkpoint
