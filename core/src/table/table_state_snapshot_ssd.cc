// TableState: the rows on SSD of a save, read in the order in which they lie there.
#include <algorithm>
#include <mutex>

#include "table/table_state.h"

namespace mxrec {
namespace {

constexpr uint64_t kWindowRows = 1 << 20;  // about, whose keys are in memory at a time
constexpr size_t kPiece = 4096;            // rows read at a time
constexpr int kSegmentsAtOnce = 32;        // of an index, under its lock: training waits

RowMeta MetaOf(const SpilledRow& row) { return {row.last_time, row.frequency, 0, row.stamp}; }

}  // namespace

// Rows that the save is going to write, by what is known of them in memory.
template <class Use>
void TableState::ForEachUnsaved(Use&& use) const {
  for (uint32_t s = 0; s < shards(); ++s) {
    const SpilledRows& spilled = tier_->shard(s).spilled;
    for (uint64_t position = 0; position < KeyIndex::kEndOfPositions;) {
      std::shared_lock lock(shards_[s]->mu);
      for (int i = 0; i < kSegmentsAtOnce && position < KeyIndex::kEndOfPositions; ++i) {
        position = spilled.VisitSegment(position, [&](int64_t key, const SpilledRow* row) {
          if (tracker_.WantsImage(MetaOf(*row), row->reprieve)) use(key, row->location);
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
    std::vector<Wanted> wanted;
    RowBlock counters;
    const ssd::SsdLog::Guard guard = tier_->log().Enter();
    for (const auto& [location, key] : piece) {
      const uint64_t hash = HashKey(key);
      const uint32_t s = ShardOf(hash, shard_bits_);
      std::shared_lock lock(shards_[s]->mu);
      SpilledRow* const row = FindSpilled(s, hash, key);
      if (row == nullptr || row->location != location) continue;
      RowMeta meta = MetaOf(*row);
      const bool write = tracker_.VisitSpilled(s, key, &meta, row->reprieve);
      row->stamp = meta.stamp;
      if (!write) continue;
      wanted.push_back({key, location});
      counters.frequency.push_back(row->frequency);
      counters.last_time.push_back(row->last_time);
    }
    MXREC_RETURN_IF_ERROR(EmitSpilled(guard, wanted, &counters, block));
  }
  return {};
}

}  // namespace mxrec
