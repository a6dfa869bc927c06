// TableState: the rows on SSD of a save, read in the order in which they lie there.
#include <algorithm>

#include "table/table_state.h"

namespace mxrec {
namespace {

constexpr uint64_t kWindowRows = 1 << 20;  // about, whose keys are in memory at a time
constexpr size_t kPiece = 4096;            // rows read at a time
constexpr int kSegmentsAtOnce = 32;        // of an index, under its lock: training waits

}  // namespace

// Rows that the save is going to write, by what is known of them in memory.
template <class Use>
void TableState::ForEachUnsaved(Use&& use) const {
  for (uint32_t s = 0; s < shards(); ++s) {
    for (uint64_t position = 0; position < KeyIndex::kEndOfPositions;) {
      const SharedLock lock(ShardAt(s).mu);
      for (int i = 0; i < kSegmentsAtOnce && position < KeyIndex::kEndOfPositions; ++i) {
        position = SpilledOf(s).VisitSegment(position, [&](int64_t key, const SpilledRow* row) {
          if (tracker_.WantsImage(row->meta(), row->reprieve)) use(key, row->location);
        });
      }
    }
  }
}

void TableState::BeginSpilledLap() {
  SpilledLap& lap = spilled_lap_;
  lap = {};
  lap.begun = true;
  uint64_t rows = 0;
  ForEachUnsaved([&](int64_t /*key*/, uint32_t location) {
    ++rows;
    lap.end = std::max<uint64_t>(lap.end, uint64_t{location} + 1);
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
      ForEachUnsaved([&](int64_t key, uint32_t location) {
        if (location >= lap.next && location < end) lap.items.push_back({location, key});
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
