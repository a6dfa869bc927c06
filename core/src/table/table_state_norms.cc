// TableState: which rows an eviction by norm takes.
#include "table/table_state.h"

namespace mxrec {

// A row on SSD keeps its norm, so one that is marked as large enough is not read again. Those that
// cannot be read stay: they have no norm.
std::vector<TableState::Entry> TableState::Below(uint32_t s, const std::vector<Entry>& entries) {
  const float norm = sweep_.min_l2;
  std::vector<Entry> below;
  std::vector<Entry> spilled;
  std::vector<Wanted> wanted;
  for (const Entry& entry : entries) {
    if (entry.spilled == nullptr) {
      if (IsBelow(norm, ShardAt(s).arena->Row(entry.ref))) below.push_back(entry);
    } else if (entry.spilled->large == 0 || norm > tier_->known_norm) {
      entry.spilled->large = 0;
      spilled.push_back(entry);
      wanted.push_back({entry.key, entry.spilled->location});
    }
  }
  if (wanted.empty()) return below;
  const ssd::SsdLog::Guard guard = tier_->log().Enter();
  const Status status = ReadSpilled(guard, wanted, [&](size_t i, const float* row) {
    if (IsBelow(norm, row)) {
      below.push_back(spilled[i]);
    } else {
      spilled[i].spilled->large = 1;
    }
  });
  if (!status.ok()) {
    tier_->NoteError({status.code(),
                      "eviction by min_l2 left rows that it could not read: " + status.message()});
  }
  return below;
}

}  // namespace mxrec
