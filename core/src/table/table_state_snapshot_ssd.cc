// TableState: the rows on SSD of a save. Files that consist mostly of them are taken as they are;
// the other rows are read in the order in which they lie there.
#include <algorithm>

#include "table/table_state.h"

namespace mxrec {
namespace {

constexpr uint64_t kWindowRows = 1 << 20;  // about, whose keys are in memory at a time
constexpr size_t kPiece = 4096;            // rows read at a time
constexpr int kSegmentsAtOnce = 32;        // of an index, under its lock: training waits

// Whether a file is taken: so that less than half of one is not the checkpoint's.
bool IsMostlyRows(uint64_t rows, uint64_t records) { return rows * 2 > records; }

}  // namespace

// Rows that the save is going to write, by what is known of them in memory.
template <class Use>
void TableState::ForEachUnsaved(Use&& use) const {
  for (uint32_t s = 0; s < shards(); ++s) {
    for (uint64_t position = 0; position < KeyIndex::kEndOfPositions;) {
      const SharedLock lock(ShardAt(s).mu);
      for (int i = 0; i < kSegmentsAtOnce && position < KeyIndex::kEndOfPositions; ++i) {
        position = SpilledOf(s).VisitSegment(position, [&](int64_t key, SpilledRow* row) {
          if (tracker_.WantsImage(row->meta(), row->reprieve)) use(s, key, row);
        });
      }
    }
  }
}

// A pinned segment keeps its place, so a location in it names a record of that file.
Status TableState::LinkSegments(const LinkSegment& link, std::vector<SnapshotSegment>* segments) {
  if (tier_ == nullptr) return {};
  const ssd::SsdLog::Pins pins = tier_->log().Pin();
  if (pins.segments().empty()) return {};
  const uint32_t capacity = tier_->log().stats().segment_records;
  constexpr size_t kNone = SIZE_MAX;
  struct Candidate {
    size_t pin = kNone;
    uint64_t rows = 0;
    size_t segment = kNone;  // in *segments
  };
  std::vector<Candidate> candidates;  // by number of the segment
  for (size_t i = 0; i < pins.segments().size(); ++i) {
    const size_t number = pins.segments()[i].first_location / capacity;
    candidates.resize(std::max(candidates.size(), number + 1));
    candidates[number].pin = i;
  }
  const auto candidate = [&](const SpilledRow* row) -> Candidate* {
    const size_t number = row->location / capacity;
    return number < candidates.size() ? &candidates[number] : nullptr;
  };
  ForEachUnsaved([&](uint32_t /*s*/, int64_t /*key*/, const SpilledRow* row) {
    if (Candidate* const found = candidate(row); found != nullptr) ++found->rows;
  });

  for (Candidate& each : candidates) {
    if (each.pin == kNone) continue;
    const ssd::SsdLog::Pins::Pinned& pinned = pins.segments()[each.pin];
    if (!IsMostlyRows(each.rows, pinned.records) || pinned.unreadable) continue;
    const Status synced = pins.Sync(each.pin);
    if (synced.code() == StatusCode::kNotFound)
      continue;  // others have deleted it: nothing to link
    MXREC_RETURN_IF_ERROR(synced);
    const auto linked = link(pinned.file, segments->size());
    if (!linked.ok()) return linked.status();
    if (!linked.value()) break;  // nor will others
    each.segment = segments->size();
    segments->push_back({.run = pinned.run,
                         .id = pinned.segment,
                         .bytes = pinned.bytes,
                         .records = pinned.records,
                         .bits = std::vector<uint64_t>((pinned.records + 63) / 64)});
  }

  if (segments->empty()) return {};
  ForEachUnsaved([&](uint32_t s, int64_t key, SpilledRow* row) {
    const Candidate* const found = candidate(row);
    if (found == nullptr || found->segment == kNone) return;
    SnapshotSegment& segment = (*segments)[found->segment];
    const uint32_t slot = row->location % capacity;
    RowMeta meta = row->meta();
    if (tracker_.VisitSpilled(s, key, &meta, row->reprieve)) {
      segment.bits[slot / 64] |= uint64_t{1} << (slot % 64);
      ++segment.rows;
    }
    row->stamp = meta.stamp;
  });
  return {};
}

void TableState::BeginSpilledLap() {
  SpilledLap& lap = spilled_lap_;
  lap = {};
  lap.begun = true;
  uint64_t rows = 0;
  ForEachUnsaved([&](uint32_t /*s*/, int64_t /*key*/, const SpilledRow* row) {
    ++rows;
    lap.end = std::max<uint64_t>(lap.end, uint64_t{row->location} + 1);
  });
  const uint64_t windows = std::max<uint64_t>(1, (rows + kWindowRows - 1) / kWindowRows);
  lap.width = lap.end / windows + 1;
}

void TableState::TakeForSave(uint32_t s, int64_t key, SpilledRow* row, SpilledBatch* batch) {
  RowMeta meta = row->meta();
  const bool write = tracker_.VisitSpilled(s, key, &meta, row->reprieve);
  row->stamp = meta.stamp;
  if (write) batch->Add(key, *row);
}

// Appends about `max_rows` of them to the block; fewer: there are no more.
Status TableState::ScanSpilled(size_t max_rows, RowBlock* block) {
  if (tier_ == nullptr) return {};
  SpilledLap& lap = spilled_lap_;
  if (!lap.begun) BeginSpilledLap();
  while (block->size() < max_rows) {
    if (lap.at == lap.items.size()) {
      if (lap.next >= lap.end) break;
      lap.items.clear();
      lap.at = 0;
      const uint64_t end = lap.next + lap.width;
      ForEachUnsaved([&](uint32_t /*s*/, int64_t key, const SpilledRow* row) {
        if (row->location < lap.next || row->location >= end) return;
        lap.items.push_back({row->location, key});
      });
      std::ranges::sort(lap.items, {}, &SpilledLap::Item::location);
      lap.next = end;
      continue;
    }
    const size_t n = std::min({kPiece, lap.items.size() - lap.at, max_rows - block->size()});
    const std::span<const SpilledLap::Item> piece(lap.items.data() + lap.at, n);
    lap.at += n;
    SpilledBatch spilled;
    const ssd::SsdLog::Guard guard = tier_->log().Enter();
    for (const auto& [location, key] : piece) {
      const uint64_t hash = HashKey(key);
      const uint32_t s = ShardOf(hash, shard_bits_);
      const SharedLock lock(ShardAt(s).mu);
      SpilledRow* const row = FindSpilled(s, hash, key);
      if (row == nullptr || row->location != location) continue;
      TakeForSave(s, key, row, &spilled);
    }
    MXREC_RETURN_IF_ERROR(EmitSpilled(guard, spilled, block));
  }
  return {};
}

}  // namespace mxrec
