// What goes into the calls of a Table and comes out of them. Plain data.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/status.h"

namespace mxrec {

inline constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

// An address names a row for as long as the row stays where it is: table tag, generation and slot
// in 63 bits (docs/architecture.md). kNoAddress means "no row here": padding, or an absent key.
inline constexpr int64_t kNoAddress = -1;

// The distinct keys of a batch, in the order of their first occurrence.
struct UniqueKeys {
  std::vector<int64_t> keys;       // [u]
  std::vector<int64_t> addresses;  // [u]; kNoAddress for padding keys and, in kFind, absent ones
  std::vector<uint32_t> counts;    // [u] occurrences in the batch

  size_t size() const { return keys.size(); }
};

// Where the distinct keys of a batch are written, in the order of their first occurrence. Null: not
// wanted.
struct UniqueOutput {
  int64_t* keys = nullptr;       // [u]
  int64_t* addresses = nullptr;  // [u], as in UniqueKeys
  uint32_t* counts = nullptr;    // [u]
  float* rows = nullptr;         // [u, dim]; zeros for keys without a row
};
// Makes room for so many distinct keys. It is called once, before the table changes; its error ends
// the call.
using UniqueAllocator = std::function<Result<UniqueOutput>(size_t unique)>;

// How a training lookup uses its keys.
struct TrainingUse {
  // Seconds, in [0, 2^32). None: the wall clock. One: of the whole batch. More: the batch is cut
  // into as many equal parts, one after the other, each with a time of its own. A key was last used
  // at the latest time that it was given, whatever came in between.
  std::span<const int64_t> timestamps = {};
  int64_t coefficient = 0;  // what an occurrence counts in admission; 0: what the table says
  const float* absent_row = nullptr;  // [dim], read by keys that are not admitted; null: zeros
  // With admission, false: rows come from InsertMissing alone, of the keys that Missing told. A key
  // that another batch has brought to the threshold in between waits for its next batch.
  bool makes_rows = true;
};

enum class ResolveMode : uint8_t {
  kFind,    // changes nothing
  kInsert,  // inserts missing keys, counts uses
};

// What becomes of a gradient whose address is no longer valid.
enum class StaleAddress : uint8_t {
  kReject,    // the whole batch is refused with kInvalidArgument
  kFallBack,  // the row is looked for by the key that last lived there; none: skipped and counted
};

struct ApplyResult {
  int64_t updated = 0;  // rows
  int64_t skipped = 0;  // distinct keys or addresses without a row, padding included
};

// Complete rows, column by column: the unit of export and restore.
struct RowBlock {
  std::vector<int64_t> keys;        // [n]
  std::vector<uint32_t> frequency;  // [n] training occurrences, saturating
  std::vector<uint32_t> last_time;  // [n] seconds, 0: never stamped
  std::vector<float> values;        // [n, row_floats]: embedding, then slots

  size_t size() const { return keys.size(); }
  void clear() {
    keys.clear();
    frequency.clear();
    last_time.clear();
    values.clear();
  }
};

// Rows of a snapshot that lie in one file of the SSD tier, which never changes.
struct SnapshotSegment {
  uint64_t run = 0;            // of the log that wrote the file
  uint64_t id = 0;             // of the segment in that log
  uint64_t bytes = 0;          // of the file
  uint64_t records = 0;        // in it
  int64_t rows = 0;            // of the snapshot among them
  std::vector<uint64_t> bits;  // which: one for each record
};
// Gives the file a second name, that of segment `number`. False: it cannot have one.
using LinkSegment = std::function<Result<bool>(const std::string& file, size_t number)>;

// Where an export stands. Value-initialised: at the start.
struct ScanCursor {
  uint32_t shard = 0;
  uint64_t position = 0;  // in the shard's key order; 2^32: the shard is done
};

// What a checkpoint keeps of admission and eviction beside counts and times.
enum class TimeSource : uint8_t {
  kNone = 0,  // there was no training use
  kWallClock,
  kTimestamps,  // given by the caller
};
inline constexpr int64_t kNeverAdmit = std::numeric_limits<int64_t>::max();
struct AdmissionState {
  int64_t threshold = kNeverAdmit;  // in force; kNeverAdmit: none is known
  bool frozen = false;              // counts do not grow
  uint32_t latest_time = 0;         // of all training uses, seconds
  TimeSource time_source = TimeSource::kNone;

  bool operator==(const AdmissionState&) const = default;
};

// Of a table with an SSD tier. Rows are in memory or on SSD, never both.
struct TierStats {
  int64_t memory_capacity = 0;  // rows; a batch with more of them has all in memory for its time
  int64_t memory_rows = 0;
  int64_t ssd_capacity = 0;  // rows
  int64_t ssd_rows = 0;
  // Since creation, in rows.
  int64_t promoted = 0;         // from SSD into memory, by batches that needed them
  int64_t promoted_staged = 0;  // of those, read ahead: the batch did not wait for the disk
  int64_t spilled = 0;          // from memory to SSD
  int64_t read_in_place = 0;    // by lookups that leave a table as it is
  int64_t staged_rows = 0;      // read ahead and not yet needed, now
  int64_t bytes_staged = 0;
  int64_t bytes_index = 0;  // what memory holds of rows on SSD
  // Of the disks.
  int64_t read_requests = 0;
  int64_t bytes_read = 0;     // by requests, compaction's not included
  int64_t bytes_written = 0;  // compaction's included
  int64_t bytes_on_disk = 0;
  int64_t bytes_live = 0;  // of them, what rows need
  int64_t compacted_rows = 0;
  int64_t wait_micros = 0;  // of batches, for compaction to free space
  int64_t errors = 0;       // reads that failed
  bool uses_io_uring = false;
  std::string why_no_io_uring;      // empty where it is used
  bool direct_io = false;           // on all paths
  std::vector<int64_t> path_bytes;  // of segments, by path
  std::string background_error;     // the last one that no call returned; empty: none
};

struct TableStats {
  int64_t rows = 0;
  int64_t capacity = kUnbounded;
  // Bytes held from the operating system, by kind.
  int64_t bytes_rows = 0;
  int64_t bytes_metadata = 0;
  int64_t bytes_index = 0;
  int64_t bytes_save_images = 0;  // rows kept as they were, for a save under way
  double load = 0.0;              // occupied fraction of the index's entries
  int64_t segments = 0;
  // Since creation. Hits and misses: keys of lookups, repetitions included, that had a row when the
  // call began or had none.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t inserts = 0;
  int64_t erased = 0;
  int64_t refused_by_capacity = 0;   // distinct keys of a batch, turned away by a full table
  int64_t refused_by_admission = 0;  // the same, below the threshold
  int64_t admitted = 0;              // keys that got a row in a training lookup
  int64_t evicted_by_age = 0;
  int64_t evicted_by_rows = 0;  // beyond max_rows
  int64_t evicted_by_l2 = 0;
  bool evicting = false;     // a sweep is under way
  int64_t counted_keys = 0;  // with a count and no row; a sketch knows only that of rows: 0
  int64_t bytes_admission = 0;
  int64_t latest_time = 0;             // of all training uses, seconds; 0: none
  int64_t admission_threshold = kOff;  // in force; kOff: no admission
  bool admission_frozen = false;       // counts do not grow
  int64_t skipped_gradients = 0;       // gradients whose key had no row
  int64_t hot_hits = 0;                // of `hits`, those found among the hot rows
  int64_t hot_rows = 0;                // rows that have a copy there now
  int64_t bytes_hot = 0;
  int64_t prepared_lookups = 0;  // training lookups whose batch had been prepared
  int64_t prepared_waiting = 0;  // batches prepared and not yet looked up
  int64_t prepared_dropped = 0;  // batches prepared and never looked up
  int64_t growth_events = 0;     // index segments split
  int64_t optimizer_step = 0;
  int64_t updates = 0;  // steps of the optimizer since creation, whatever was restored
  int num_shards = 0;
  ValueType value_type = ValueType::kFloat32;
  int64_t growth_micros = 0;          // that splits of index segments took, in all threads
  int64_t longest_growth_micros = 0;  // that one of them took
  std::optional<TierStats> tiers;     // of a table with an SSD tier
};

// The version that rows which have just been restored are, for deltas to follow.
struct Lineage {
  std::string uid;  // empty: changes are not counted
  int64_t step = 0;
  bool counts_recent = false;  // uses are counted for a recent_threshold
};

// The keys of a batch where the caller has them, int64 or int32, never copied.
class KeySpan {
 public:
  KeySpan() = default;
  KeySpan(const int64_t* keys, size_t n) : keys_(keys), size_(n) {}
  KeySpan(const int32_t* keys, size_t n) : keys_(keys), size_(n), narrow_(true) {}
  // A vector, span or array of either type.
  template <std::ranges::contiguous_range Keys>
  requires std::same_as<std::ranges::range_value_t<Keys>, int64_t> ||
      std::same_as<std::ranges::range_value_t<Keys>, int32_t>
      KeySpan(const Keys& keys) : KeySpan(std::ranges::data(keys), std::ranges::size(keys)) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t operator[](size_t i) const {
    return narrow_ ? static_cast<const int32_t*>(keys_)[i] : static_cast<const int64_t*>(keys_)[i];
  }

  std::span<const std::byte> bytes() const {
    const size_t item = narrow_ ? sizeof(int32_t) : sizeof(int64_t);
    return {static_cast<const std::byte*>(keys_), size_ * item};
  }

  // Calls visit with the keys as a pointer of their own type: one branch a batch, for inner loops.
  template <class Visit>
  decltype(auto) Dispatch(Visit&& visit) const {
    return narrow_ ? visit(static_cast<const int32_t*>(keys_))
                   : visit(static_cast<const int64_t*>(keys_));
  }

 private:
  const void* keys_ = nullptr;
  size_t size_ = 0;
  bool narrow_ = false;
};

// What the weighted sum of a bag is divided by. A bag whose divisor is 0 pools to zeros, an empty
// one too, and has zero gradients.
enum class Combiner : uint8_t {
  kSum,    // 1
  kMean,   // the sum of the weights
  kSqrtN,  // the square root of the sum of their squares
};
// "sum", "mean", "sqrtn"
MXREC_API std::optional<Combiner> CombinerFromName(std::string_view name);

// The bags of a batch of n occurrences: bag b holds [offsets[b], offsets[b + 1]).
struct Bags {
  std::span<const int64_t> offsets;  // [size() + 1], not descending, from 0 to n
  const float* weights = nullptr;    // [n]; null: all 1
  Combiner combiner = Combiner::kSum;

  size_t size() const { return offsets.size() - 1; }
  size_t occurrences() const { return static_cast<size_t>(offsets.back()); }
};
// kInvalidArgument, naming `offsets`, unless they are as above.
MXREC_API Status Validate(const Bags& bags, size_t occurrences);

}  // namespace mxrec
