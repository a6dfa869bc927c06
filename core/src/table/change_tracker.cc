#include "table/change_tracker.h"

#include <algorithm>
#include <new>
#include <utility>

#include "admission/key_counters.h"

namespace mxrec {

namespace {

constexpr size_t kRecentAwayBytes = 40;  // of a use by key: a node of the map and its link

}  // namespace

ChangeTracker::ChangeTracker(uint32_t shards, size_t row_bytes) {
  for (uint32_t s = 0; s < shards; ++s) {
    shards_.push_back(std::make_unique<ShardChanges>(row_bytes, &image_bytes_));
  }
}

void ChangeTracker::SetRowBytes(size_t row_bytes) {
  for (const auto& shard : shards_) shard->images.SetRowBytes(row_bytes);
  SetLineage({}, 0, false);
}

void ChangeTracker::SetLineage(const std::string& uid, int64_t step, bool counts_recent) {
  lineage_ = uid;
  lineage_step_ = step;
  ++epoch_;  // a table that is restored has epochs left
  since_ = epoch_;
  counts_recent_ = counts_recent && !uid.empty();
  lost_ = false;
  for (const auto& shard : shards_) {
    std::vector<int64_t>().swap(shard->gone);
    std::vector<uint32_t>().swap(shard->recent);
    RecentUses().swap(shard->recent_away);
  }
  Activate();
}

// --- Changes ------------------------------------------------------------------------------------

bool ChangeTracker::ExpiredThen(const RowMeta& meta, bool reprieved) const {
  if (!instant_.by_age || meta.last_time > instant_.cutoff) return false;
  const bool trained = meta.frequency != 0 || meta.last_time != 0;
  return trained && !reprieved;
}

// ref: kNoRow for a row on SSD, of which the key is known.
bool ChangeTracker::LeftOut(uint32_t s, int64_t key, RowRef ref) const {
  // Without counts of the period nothing is known to be rare.
  if (!instant_.delta || instant_.recent_threshold <= 0 || !knows_recent_) return false;
  const ShardChanges& shard = *shards_[s];
  uint32_t uses = 0;
  if (ref != kNoRow) {
    uses = ref < shard.recent_saved.size() ? shard.recent_saved[ref] : 0;
  } else if (const auto away = shard.recent_away_saved.find(key);
             away != shard.recent_away_saved.end()) {
    uses = away->second;
  }
  return uses < instant_.recent_threshold;
}

bool ChangeTracker::Included(const RowMeta& meta, bool reprieved) const {
  if (ExpiredThen(meta, reprieved)) return false;
  return !instant_.delta || (meta.stamp & kEpochs) >= since_;
}

void ChangeTracker::Keep(uint32_t s, RowRef ref, const int64_t* key, RowMeta* meta,
                         const float* row) {
  if (!Included(*meta, Reprieved(s, ref))) {
    MarkDone(meta);
  } else if (LeftOut(s, key == nullptr ? 0 : *key, ref)) {
    ++left_out_;
    MarkDone(meta);
  } else if (!shards_[s]->images.Add(ref, key, *meta, row)) {
    out_of_memory_ = true;
    MarkDone(meta);
  }
}

void ChangeTracker::NoteGone(uint32_t s, int64_t key) {
  if (lineage_.empty() && !instant_.tracks) return;
  try {
    shards_[s]->gone.push_back(key);
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
}

void ChangeTracker::NoteExpired(uint32_t s, int64_t key) {
  if (!instant_.delta) return;
  try {
    shards_[s]->expired.push_back(key);
  } catch (const std::bad_alloc&) {
    out_of_memory_ = true;
  }
}

void ChangeTracker::AddGone(uint32_t s, std::vector<int64_t>* keys) const {
  const ShardChanges& shard = *shards_[s];
  const auto saved = shard.gone.begin() + static_cast<ptrdiff_t>(shard.gone_saved);
  keys->insert(keys->end(), shard.gone.begin(), saved);
  keys->insert(keys->end(), shard.expired.begin(), shard.expired.end());
}

void ChangeTracker::HandOver(uint32_t s, int64_t key, RowRef ref, bool reprieved, RowMeta* meta,
                             const float* row) {
  if (!Pending(*meta)) return;
  bool kept = true;
  if ((meta->stamp & kEpochs) == epoch_) {
    kept = shards_[s]->images.Orphan(ref, key);
  } else if (ExpiredThen(*meta, reprieved)) {
    NoteExpired(s, key);
  } else if (Included(*meta, reprieved)) {
    if (LeftOut(s, key, ref)) {
      ++left_out_;
      meta->stamp = epoch_;  // changed, as the next delta sees it
    } else {
      kept = shards_[s]->images.AddOrphan(key, *meta, row);
    }
  }
  if (!kept) out_of_memory_ = true;
  MarkDone(meta);
  if (ref != kNoRow) shards_[s]->reprieved.erase(ref);
}

void ChangeTracker::Remove(uint32_t s, int64_t key, RowRef ref, const RowMeta& meta,
                           const float* row) {
  NoteGone(s, key);
  RowMeta last = meta;
  HandOver(s, key, ref, Reprieved(s, ref), &last, row);
}

void ChangeTracker::RemoveSpilled(uint32_t s, int64_t key, RowMeta meta, uint16_t reprieve,
                                  const float* row) {
  NoteGone(s, key);
  // Otherwise LoseImage has been called.
  if (row != nullptr || !WantsImage(meta, reprieve)) {
    HandOver(s, key, kNoRow, Reprieved(reprieve), &meta, row);
  }
  shards_[s]->recent_away.erase(key);
  shards_[s]->recent_away_saved.erase(key);
}

bool ChangeTracker::VisitSpilled(uint32_t s, int64_t key, RowMeta* meta, uint16_t reprieve) {
  if (!Pending(*meta)) return false;
  const bool reprieved = Reprieved(reprieve);
  if (ExpiredThen(*meta, reprieved)) NoteExpired(s, key);
  bool write = Included(*meta, reprieved);
  if (write && LeftOut(s, key, kNoRow)) {
    ++left_out_;
    write = false;
    meta->stamp = epoch_;  // changed, as the next delta sees it
  }
  MarkDone(meta);
  return write;
}

void ChangeTracker::Forget(uint32_t s, int64_t key) { NoteGone(s, key); }

void ChangeTracker::Move(uint32_t s, RowRef from, RowRef to, const RowMeta& meta) {
  ShardChanges& shard = *shards_[s];
  if (open_ && (meta.stamp & kDoneBit) != phase_) {
    if ((meta.stamp & kEpochs) == epoch_) shard.images.Move(from, to);
    if (shard.sifted) {
      if (to < shard.pending.size()) {
        shard.pending[to] = true;
      } else {
        shard.sifted = false;  // everything is looked at again
      }
    }
    if (auto node = shard.reprieved.extract(from); !node.empty()) {
      node.value() = to;
      shard.reprieved.insert(std::move(node));
    }
  }
  for (std::vector<uint32_t>* uses : {&shard.recent, &shard.recent_saved}) {
    const uint32_t seen = from < uses->size() ? (*uses)[from] : 0;
    if (seen == 0 && to >= uses->size()) continue;
    try {
      if (to >= uses->size()) uses->resize(to + 1);
      (*uses)[to] = seen;
    } catch (const std::bad_alloc&) {
      // The row counts as rare: it waits for a later delta.
      continue;
    }
  }
}

void ChangeTracker::CountRecent(uint32_t s, RowRef ref, uint64_t occurrences) {
  std::vector<uint32_t>& uses = shards_[s]->recent;
  if (ref >= uses.size()) {
    try {
      uses.resize(std::max<size_t>(ref + 1, uses.size() * 2));
    } catch (const std::bad_alloc&) {
      recent_lost_ = true;  // the next delta leaves nothing out
      return;
    }
  }
  uses[ref] = AddSaturating(uses[ref], occurrences);
}

void ChangeTracker::ForgetRecent(uint32_t s, RowRef ref) {
  ShardChanges& shard = *shards_[s];
  // A save that fails gives its counts back.
  for (std::vector<uint32_t>* uses : {&shard.recent, &shard.recent_saved}) {
    if (ref < uses->size()) (*uses)[ref] = 0;
  }
}

void ChangeTracker::KeepRecent(uint32_t s, int64_t key, RowRef ref) {
  ShardChanges& shard = *shards_[s];
  const auto keep = [&](const std::vector<uint32_t>& uses, RecentUses* away) {
    if (ref >= uses.size() || uses[ref] == 0) return;
    try {
      away->emplace(key, uses[ref]);
    } catch (const std::bad_alloc&) {
      recent_lost_ = true;  // the next delta leaves nothing out
    }
  };
  keep(shard.recent, &shard.recent_away);
  keep(shard.recent_saved, &shard.recent_away_saved);
}

void ChangeTracker::RestoreRecent(uint32_t s, int64_t key, RowRef ref) {
  ShardChanges& shard = *shards_[s];
  ForgetRecent(s, ref);
  const auto restore = [&](RecentUses* away, std::vector<uint32_t>* uses) {
    const auto found = away->find(key);
    if (found == away->end()) return;
    try {
      if (ref >= uses->size()) uses->resize(std::max<size_t>(ref + 1, uses->size() * 2));
      (*uses)[ref] = found->second;
    } catch (const std::bad_alloc&) {
      recent_lost_ = true;
    }
    away->erase(found);
  };
  restore(&shard.recent_away, &shard.recent);
  restore(&shard.recent_away_saved, &shard.recent_saved);
}

// --- A save -------------------------------------------------------------------------------------

void ChangeTracker::EndRestamp() {
  epoch_ = 2;
  since_ = 2;
}

void ChangeTracker::Begin(const Instant& instant,
                          const std::vector<const std::unordered_set<RowRef>*>& reprieved) {
  remains_.reserve(shards_.size());
  if (instant.by_age) {
    for (size_t s = 0; s < shards_.size(); ++s) shards_[s]->reprieved = *reprieved[s];
  }
  // Nothing can fail any more.
  knows_recent_ = counts_recent_ && !recent_lost_;
  for (const auto& shard : shards_) {
    shard->gone_saved = shard->gone.size();
    if (knows_recent_) {
      shard->recent_saved = std::move(shard->recent);
      shard->recent_away_saved = std::move(shard->recent_away);
    }
    shard->recent.clear();
    shard->recent_away.clear();
  }
  recent_lost_ = false;
  lost_before_ = lost_;
  if (instant.tracks && !instant.delta) lost_ = false;  // it has everything
  instant_ = instant;
  ++epoch_;
  phase_ ^= kDoneBit;
  left_out_ = 0;
  out_of_memory_ = false;
  out_of_reach_ = false;
  open_ = true;
  if (instant.recent_threshold > 0 && instant.tracks) counts_recent_ = true;
  Activate();
}

ChangeTracker::Remains ChangeTracker::End(const std::string& saved, int64_t step) {
  open_ = false;
  const bool follows = !saved.empty() && instant_.tracks;
  if (follows) {
    lineage_ = saved;
    lineage_step_ = step;
    since_ = epoch_;
  } else if (lost_before_) {
    lost_ = true;
  }
  if (lost_) lineage_.clear();
  for (const auto& shard : shards_) {
    if (follows) {
      shard->gone.erase(shard->gone.begin(),
                        shard->gone.begin() + static_cast<ptrdiff_t>(shard->gone_saved));
    } else if (knows_recent_ && !lineage_.empty()) {
      // The period goes on.
      std::vector<uint32_t>& uses = shard->recent_saved;
      std::vector<uint32_t>& later = shard->recent;
      if (later.size() > uses.size()) std::swap(uses, later);
      for (size_t i = 0; i < later.size(); ++i) uses[i] = AddSaturating(uses[i], later[i]);
      later = std::move(uses);
      RecentUses& away = shard->recent_away_saved;
      if (shard->recent_away.size() > away.size()) std::swap(away, shard->recent_away);
      try {
        for (const auto& [key, count] : shard->recent_away) {
          uint32_t& sum = away.try_emplace(key, 0).first->second;
          sum = AddSaturating(sum, count);
        }
      } catch (const std::bad_alloc&) {
        recent_lost_ = true;
      }
      shard->recent_away = std::move(away);
    }
    if (lineage_.empty()) std::vector<int64_t>().swap(shard->gone);
    shard->gone_saved = 0;
    remains_.push_back(shard->images.Clear());
    std::unordered_set<RowRef>().swap(shard->reprieved);
    std::vector<int64_t>().swap(shard->expired);
    std::vector<bool>().swap(shard->pending);
    shard->sifted = false;
    std::vector<uint32_t>().swap(shard->recent_saved);
    RecentUses().swap(shard->recent_away_saved);
  }
  instant_ = {};
  if (lineage_.empty()) counts_recent_ = false;
  Activate();
  return std::move(remains_);
}

void ChangeTracker::Sift(uint32_t s, RowArena* arena) {
  ShardChanges& shard = *shards_[s];
  shard.pending.assign(arena->slots(), false);
  for (uint32_t slot = 0; slot < arena->slots(); ++slot) {
    RowMeta& meta = arena->Meta(slot);
    if ((meta.generation & 1) == 0 || (meta.stamp & kDoneBit) == phase_) continue;
    // One that has gone without being removed is named among the keys that have gone.
    if ((meta.stamp & kEpochs) >= since_ || ExpiredThen(meta, Reprieved(s, slot))) {
      shard.pending[slot] = true;
    } else {
      MarkDone(&meta);
    }
  }
  shard.sifted = true;
}

ChangeTracker::Row ChangeTracker::Visit(uint32_t s, int64_t key, RowRef ref, RowMeta* meta) {
  if ((meta->stamp & kDoneBit) == phase_) return Row::kSkip;
  const bool changed = (meta->stamp & kEpochs) == epoch_;
  if (changed) {
    MarkDone(meta);
    return Row::kImage;
  }
  const bool reprieved = Reprieved(s, ref);
  if (ExpiredThen(*meta, reprieved)) NoteExpired(s, key);
  bool write = Included(*meta, reprieved);
  if (write && LeftOut(s, key, ref)) {
    ++left_out_;
    write = false;
    meta->stamp = epoch_;  // changed, as the next delta sees it
  }
  MarkDone(meta);
  return write ? Row::kWrite : Row::kSkip;
}

int64_t ChangeTracker::bytes(uint32_t s) const {
  const ShardChanges& shard = *shards_[s];
  return static_cast<int64_t>(
      (shard.gone.capacity() + shard.expired.capacity()) * sizeof(int64_t) +
      (shard.recent.capacity() + shard.recent_saved.capacity()) * sizeof(uint32_t) +
      (shard.recent_away.size() + shard.recent_away_saved.size()) * kRecentAwayBytes);
}

}  // namespace mxrec
