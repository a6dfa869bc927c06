// Snapshot: a table as it is at one instant, read while training goes on.
//
// Beginning one copies no row. A row that changes before it has been read leaves an image of itself
// behind; so the extra memory is that of the rows that change meanwhile, and at most image_bytes:
// beyond it calls that change rows wait for the reader, who takes images first.
//
// One snapshot of a table at a time. While there is one, restoring the table, closing it, binding
// an optimizer and turning admission on wait for its end.
//
// Not thread-safe itself; the table is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/status.h"
#include "mxrec/table_types.h"

namespace mxrec {

class Table;

struct SnapshotOptions {
  // Uid of the version to which the snapshot is to be a delta: changes since then only. Empty: all
  // rows. The table must be counting its changes since that very version.
  std::string parent = {};
  // From this instant the table counts its changes, for a delta to this snapshot's version.
  bool tracks = false;
  // > 0, of a delta: rows used less often since the parent are left out, and still count as changed
  // for the next delta. Of any that tracks: uses are counted for the next delta.
  int64_t recent_threshold = 0;
  int64_t image_bytes = int64_t{1} << 30;
};

// The version that rows which have just been restored are, for deltas to follow.
struct Lineage {
  std::string uid;  // empty: changes are not counted
  int64_t step = 0;
  bool counts_recent = false;  // uses are counted for a recent_threshold
};

class MXREC_API Snapshot {
 public:
  Snapshot(Snapshot&&) noexcept;
  ~Snapshot();  // End(""), unless there was one

  const std::string& table_name() const;
  // As they were at the instant.
  const TableOptions& options() const;
  int64_t optimizer_step() const;
  const AdmissionState& admission_state() const;
  const SnapshotOptions& wanted() const;
  int64_t parent_step() const;  // of a delta

  // Replaces *block by the next rows, about `max_rows`; empty at the end. Every row once, in no
  // particular order.
  Status Scan(int64_t max_rows, RowBlock* block);
  // Of a delta, replaces *keys by the keys that lost their row or count since the parent; they may
  // have one again. Distinct, ascending.
  Status Gone(std::vector<int64_t>* keys) const;
  // As Scan, of counts (Table::ScanCounts).
  Status ScanCounts(int64_t max_rows, RowBlock* block);
  // Rows that the recent_threshold has left out so far.
  int64_t left_out() const;

  // saved: uid of the version that has been written from it: with `tracks`, what the next delta
  // builds on. Empty: it was given up, and changes count as if there had been no snapshot.
  void End(const std::string& saved, int64_t step = 0);

 private:
  friend class Table;
  struct Impl;
  explicit Snapshot(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxrec
