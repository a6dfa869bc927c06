// Segments of a table's SSD log in a checkpoint: files of the log that have a second name there
// (core/src/ssd/record_layout.h), and the file that says which of their records are rows of it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/data_part.h"
#include "env/env.h"
#include "mxrec/checkpoint.h"
#include "ssd/record_layout.h"
#include "ssd/segment_set.h"
#include "table/row_format.h"

namespace mxrec::checkpoint {

// What the manifest says of one.
struct SegmentInfo {
  uint64_t bytes = 0;
  uint64_t records = 0;
  uint64_t rows = 0;  // of the checkpoint, among the records
  uint64_t run = 0;   // of the log that wrote it
  uint64_t id = 0;    // in that log
  bool operator==(const SegmentInfo&) const = default;
};

inline constexpr int64_t kMaxSegmentRecords = ssd::kLocationLimit;
inline constexpr char kSegmentRowsFile[] = "segment-rows";
std::string SegmentFile(uint64_t number);  // "segment-00007"

// At the start of the file of rows; 64-bit words follow, a bit for each record, each segment from a
// word of its own on, and their checksum.
struct SegmentRowsHeader {
  static constexpr std::array<char, 8> kMagic = {'M', 'X', 'R', 'E', 'C', 'S', 'R', 'W'};
  std::array<char, 8> magic = kMagic;
  uint32_t version = 1;
  uint32_t segments = 0;
  Uid uid = {};
  uint64_t words = 0;
  uint64_t checksum = 0;  // of all bytes before it
};
static_assert(sizeof(SegmentRowsHeader) == 48 && offsetof(SegmentRowsHeader, checksum) == 40);

using SegmentBits = std::vector<std::vector<uint64_t>>;  // by segment
inline uint64_t BitWords(uint64_t records) { return (records + 63) / 64; }

// Writes and syncs the file in `dir`. Its size.
Result<uint64_t> WriteSegmentRows(Env* env, const std::string& dir, const Uid& uid,
                                  const std::vector<SnapshotSegment>& segments);
// What does not agree with the manifest is kDataLoss. No allocation is larger than the file.
Result<SegmentBits> ReadSegmentRows(Env* env, const std::string& dir, const Uid& uid,
                                    const std::vector<SegmentInfo>& segments, uint64_t bytes);

// The rows of one segment, block by block. Trusts nothing in the file, as PartReader. Not
// thread-safe.
class SegmentReader {
 public:
  // options: of the saved table. bits outlive the reader.
  static Result<std::unique_ptr<SegmentReader>> Open(Env* env, const std::string& path,
                                                     const TableOptions& options,
                                                     const SegmentInfo& expected,
                                                     const std::vector<uint64_t>* bits);

  // Replaces *rows by the next ones; empty at the end.
  Status Next(RowBlock* rows);
  // Where the pages of the rows that Next returned last begin.
  uint64_t block_offset() const { return block_offset_; }

 private:
  SegmentReader(ListedFile file, const TableOptions& options, const SegmentInfo& expected,
                const std::vector<uint64_t>* bits);
  Status CheckFrame();
  bool Picked(uint64_t slot) const { return ((*bits_)[slot / 64] >> (slot % 64) & 1) != 0; }
  void Emit(int64_t key, const char* record, RowBlock* rows);

  const ListedFile file_;
  const SegmentInfo expected_;
  const std::vector<uint64_t>* const bits_;
  const RowFormat format_;
  const size_t dim_;
  const size_t slot_floats_;
  const ssd::RecordLayout layout_;
  uint64_t slot_ = 0;
  uint64_t block_offset_ = 0;
  std::vector<int64_t> keys_;
  std::vector<float> row_;              // aligned, as rows are in memory
  std::unique_ptr<FileStream> stream_;  // from the first Next on
};

}  // namespace mxrec::checkpoint
