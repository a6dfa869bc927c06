// TieredRows: what happens to rows on SSD where they are.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "table/tiered_rows.h"

namespace mxrec {

void TieredRows::RemoveSpilled(uint32_t s, std::span<const Entry> entries) {
  if (entries.empty()) return;
  SpilledRows& spilled = SpilledOf(s);
  // A save may want them as they were.
  std::vector<Wanted> wanted;
  std::vector<float> images;
  std::vector<const float*> image_of(entries.size(), nullptr);
  if (tracker_.active()) {
    const size_t floats = stored_bytes() / sizeof(float);
    std::vector<size_t> which;
    for (size_t i = 0; i < entries.size(); ++i) {
      const SpilledRow& row = *entries[i].spilled;
      if (!tracker_.WantsImage(row.meta(), row.reprieve)) continue;
      wanted.push_back({entries[i].key, row.location});
      which.push_back(i);
    }
    images.resize(wanted.size() * floats);
    const ssd::SsdLog::Guard guard = tier_->log().Enter();
    const Status status = ReadSpilled(guard, wanted, [&](size_t i, const float* row) {
      std::copy_n(row, floats, images.data() + i * floats);
      image_of[which[i]] = images.data() + i * floats;
    });
    if (!status.ok()) tracker_.LoseImage();
  }
  std::vector<uint32_t> freed;
  std::vector<int64_t> gone;
  freed.reserve(entries.size());
  gone.reserve(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const SpilledRow row = *entries[i].spilled;
    const int64_t key = entries[i].key;
    if (tracker_.active()) {
      tracker_.RemoveSpilled(s, key, row.meta(), row.reprieve, image_of[i]);
    }
    spilled.Erase(HashKey(key), key);
    ForgetAddresses(s, key);
    gone.push_back(key);
    freed.push_back(row.location);
  }
  tier_->staged().Drop(gone);
  tier_->log().Free(freed);
  tier_->AddRows(-static_cast<int64_t>(freed.size()));
}

Status TieredRows::RelayoutSpilled(size_t floats, const Optimizer* optimizer) {
  if (tier_ == nullptr) return {};
  const size_t kept = format_.slots_at();
  auto made = tier_->NewLog(floats * sizeof(float));
  if (!made.ok()) return made.status();
  std::unique_ptr<ssd::SsdLog> log = std::move(made).value();
  std::vector<std::pair<SpilledRow*, uint32_t>> moved;
  moved.reserve(static_cast<size_t>(tier_->rows()));
  // Held until the index has the locations: nothing of the new log is compacted before.
  const ssd::SsdLog::Guard new_guard = log->Enter();
  for (uint32_t s = 0; s < shards(); ++s) {
    for (uint64_t position = 0; position < KeyIndex::kEndOfPositions;) {
      std::vector<Wanted> wanted;
      std::vector<SpilledRow*> rows;
      const ssd::SsdLog::Guard guard = tier_->log().Enter();
      {
        const SharedLock lock(ShardAt(s).mu);
        position = SpilledOf(s).VisitSegment(position, [&](int64_t key, SpilledRow* row) {
          wanted.push_back({key, row->location});
          rows.push_back(row);
        });
      }
      std::vector<float> values(wanted.size() * floats);
      MXREC_RETURN_IF_ERROR(ReadSpilled(guard, wanted, [&](size_t i, const float* row) {
        float* const to = values.data() + i * floats;
        std::copy_n(row, kept, to);
        if (optimizer != nullptr) optimizer->InitSlots(to + kept, dim_);
      }));
      std::vector<ssd::RecordIn> records;
      for (size_t i = 0; i < wanted.size(); ++i) {
        records.push_back({.key = wanted[i].key,
                           .frequency = rows[i]->frequency,
                           .last_time = rows[i]->last_time,
                           .row = values.data() + i * floats});
      }
      std::vector<uint32_t> locations(records.size());
      MXREC_RETURN_IF_ERROR(log->Append(new_guard, records, locations.data()));
      for (size_t i = 0; i < rows.size(); ++i) moved.emplace_back(rows[i], locations[i]);
    }
  }
  tier_->Adopt(std::move(log));
  // Nothing can fail any more.
  for (const auto& [row, location] : moved) row->location = location;
  return {};
}

}  // namespace mxrec
