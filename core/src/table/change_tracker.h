// ChangeTracker: what saves need to know of a table's changes. Two things, through one stamp that
// every row carries in its metadata:
//
//  * Which rows have changed since the version that the next delta builds on, and which keys have
//    gone. Every save begins another epoch; a row's stamp has the epoch of its last change.
//  * What rows were at the instant of a save that is still being written. A row that changes for
//    the first time since then, and that the save has not dealt with, leaves an image of itself
//    behind. A bit of the stamp says whether the running save has dealt with the row: its meaning
//    alternates from save to save, so that nobody has to clear it.
//
// A row that is new since the instant is stamped as dealt with. A row that went leaves its image
// under its key. So whatever happens meanwhile, each row of the instant is passed on once.
//
// Guarded: what a shard has by its lock, the rest as the table's changes; Touch may be called for
// different rows of one shard at the same time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "table/row_images.h"

namespace mxrec {

class ChangeTracker {
 public:
  static inline const std::string kNone;
  static constexpr uint16_t kDoneBit = 0x8000;
  static constexpr uint16_t kEpochs = 0x7FFF;

  ChangeTracker(uint32_t shards, size_t row_bytes);
  // Rows are others now: of no version. No save is under way.
  void SetRowBytes(size_t row_bytes);

  // Whether changes have to be told. Fixed while there is a change.
  bool active() const { return active_; }
  // Of rows that are made now.
  uint16_t fresh_stamp() const { return static_cast<uint16_t>(epoch_ | phase_); }

  // --- Changes; only while active.
  // Before a row changes. key: null where it is not known.
  void Touch(uint32_t s, RowRef ref, const int64_t* key, RowMeta* meta, const float* row) {
    if ((meta->stamp & kEpochs) == epoch_) return;
    if (open_ && (meta->stamp & kDoneBit) != phase_) Keep(s, ref, key, meta, row);
    meta->stamp = static_cast<uint16_t>((meta->stamp & kDoneBit) | epoch_);
  }
  // Before a row goes.
  void Remove(uint32_t s, int64_t key, RowRef ref, const RowMeta& meta, const float* row);
  // The count of a key without a row goes.
  void Forget(uint32_t s, int64_t key);
  // A row has moved within its shard, its metadata with it.
  void Move(uint32_t s, RowRef from, RowRef to, const RowMeta& meta);

  // --- Rows on SSD, which never change there. Their metadata is passed as a RowMeta, with the
  // number of the sweep that left the row alone (0: none). A row that moves from tier to tier while
  // a save is under way is dealt with before.
  void Spill(uint32_t s, int64_t key, RowRef ref, RowMeta* meta, const float* row) {
    HandOver(s, key, ref, Reprieved(s, ref), meta, row);
    if (counts_recent_) KeepRecent(s, key, ref);
  }
  // ref: where the row is now.
  void Promote(uint32_t s, int64_t key, RowRef ref, RowMeta* meta, uint16_t reprieve,
               const float* row) {
    HandOver(s, key, kNoRow, Reprieved(reprieve), meta, row);
    if (counts_recent_) RestoreRecent(s, key, ref);
  }
  // Whether RemoveSpilled needs the row's values.
  bool WantsImage(const RowMeta& meta, uint16_t reprieve) const {
    return Pending(meta) && Included(meta, Reprieved(reprieve));
  }
  void RemoveSpilled(uint32_t s, int64_t key, RowMeta meta, uint16_t reprieve, const float* row);
  // As Visit: whether the save writes the row.
  bool VisitSpilled(uint32_t s, int64_t key, RowMeta* meta, uint16_t reprieve);
  // Values that a save needs are lost: it fails.
  void LoseImage() { out_of_reach_ = true; }

  // --- Uses in the period of a delta, for recent_threshold.
  bool counts_recent() const { return counts_recent_; }
  void CountRecent(uint32_t s, RowRef ref, uint64_t occurrences);
  // The slot is another row's.
  void ForgetRecent(uint32_t s, RowRef ref);

  // --- The version that deltas build on.
  // Empty as well when a change could not be noted.
  const std::string& lineage() const { return lost_ ? kNone : lineage_; }
  int64_t lineage_step() const { return lineage_step_; }
  // Rows as they are now are those of `uid`; empty: of no version. No save is under way.
  void SetLineage(const std::string& uid, int64_t step, bool counts_recent);

  // --- A save.
  struct Instant {
    bool delta = false;
    bool tracks = false;
    int64_t recent_threshold = 0;
    bool by_age = false;  // a sweep is under way: rows with times up to `cutoff` have gone
    uint32_t cutoff = 0;
    uint16_t sweep = 0;  // its number
  };
  // False: epochs have run out; Restamp() first.
  bool HasEpochs() const { return epoch_ < kEpochs; }
  // Gives a stamp of the old numbering its place in the new one; all rows, then EndRestamp.
  uint16_t Restamped(uint16_t stamp) const {
    const bool changed = !lineage_.empty() && (stamp & kEpochs) >= since_;
    return static_cast<uint16_t>((stamp & kDoneBit) | (changed ? 2 : 1));
  }
  void EndRestamp();
  // reprieved: of each shard, rows that are not gone whatever their time. May throw.
  void Begin(const Instant& instant,
             const std::vector<const std::unordered_set<RowRef>*>& reprieved);
  // saved: uid of the version that has been written; empty: it was given up. What it leaves behind
  // is better freed without a lock.
  using Remains = std::vector<RowImages::Remains>;
  Remains End(const std::string& saved, int64_t step);

  // What the save does with a row that it comes to. Under the shard's lock, shared.
  enum class Row : uint8_t {
    kSkip,   // dealt with, or not part of this save
    kWrite,  // as it is
    kImage,  // as its image is: TakeImage
  };
  Row Visit(uint32_t s, int64_t key, RowRef ref, RowMeta* meta);
  // Of a delta, in one pass over the metadata of a shard: rows that are no part of it are marked as
  // dealt with, and the others noted, so that nobody need look at the rest. Under the shard's lock.
  void Sift(uint32_t s, RowArena* arena);
  // Whether Visit may have something to do with a row, as far as Sift has told.
  bool MayBePending(uint32_t s, RowRef ref) const {
    const ShardChanges& shard = *shards_[s];
    return !shard.sifted || (ref < shard.pending.size() && shard.pending[ref]);
  }
  RowImages& images(uint32_t s) { return shards_[s]->images; }
  void MarkDone(uint16_t* stamp) const {
    *stamp = static_cast<uint16_t>((*stamp & kEpochs) | phase_);
  }
  void MarkDone(RowMeta* meta) const { MarkDone(&meta->stamp); }
  // Adds the keys that had gone at the instant, some perhaps twice. Of rows that were to be swept
  // only those are known that have been visited or removed.
  void AddGone(uint32_t s, std::vector<int64_t>* keys) const;
  int64_t left_out() const { return left_out_; }
  bool out_of_memory() const { return out_of_memory_; }
  bool out_of_reach() const { return out_of_reach_; }  // a row on SSD could not be read
  int64_t image_bytes() const { return image_bytes_.load(std::memory_order_relaxed); }
  const Instant& instant() const { return instant_; }
  // Held for a shard beside images. Under its lock.
  int64_t bytes(uint32_t s) const;

 private:
  using RecentUses = std::unordered_map<int64_t, uint32_t>;
  struct ShardChanges {
    ShardChanges(size_t row_bytes, std::atomic<int64_t>* bytes) : images(row_bytes, bytes) {}
    std::vector<int64_t> gone;  // since the lineage's version
    size_t gone_saved = 0;      // of them, before the running save's instant
    RowImages images;
    std::unordered_set<RowRef> reprieved;  // at the instant
    bool sifted = false;
    std::vector<bool> pending;           // by slot, of a shard that has been sifted
    std::vector<int64_t> expired;        // keys of rows that had gone without being removed
    std::vector<uint32_t> recent;        // uses by slot, since the last save
    std::vector<uint32_t> recent_saved;  // between the last two
    // The same of rows on SSD, by key; not there: none.
    RecentUses recent_away, recent_away_saved;
  };
  // Whether the running save has not dealt with a row.
  bool Pending(const RowMeta& meta) const { return open_ && (meta.stamp & kDoneBit) != phase_; }
  // Whether a row that has not changed since the instant belongs into the save.
  bool Included(const RowMeta& meta, bool reprieved) const;
  bool LeftOut(uint32_t s, int64_t key, RowRef ref) const;
  void KeepRecent(uint32_t s, int64_t key, RowRef ref);
  void RestoreRecent(uint32_t s, int64_t key, RowRef ref);
  bool Reprieved(uint32_t s, RowRef ref) const { return shards_[s]->reprieved.contains(ref); }
  bool Reprieved(uint16_t reprieve) const { return reprieve != 0 && reprieve == instant_.sweep; }
  bool ExpiredThen(const RowMeta& meta, bool reprieved) const;
  // A row goes from where the save would come to it.
  void HandOver(uint32_t s, int64_t key, RowRef ref, bool reprieved, RowMeta* meta,
                const float* row);
  void Keep(uint32_t s, RowRef ref, const int64_t* key, RowMeta* meta, const float* row);
  void NoteGone(uint32_t s, int64_t key);
  void NoteExpired(uint32_t s, int64_t key);
  void Activate() { active_ = open_ || !lineage_.empty(); }

  std::vector<std::unique_ptr<ShardChanges>> shards_;
  bool active_ = false;
  bool open_ = false;
  bool counts_recent_ = false;
  uint16_t epoch_ = 1;
  uint16_t phase_ = 0;  // 0 or kDoneBit
  uint16_t since_ = 1;  // rows with an epoch from here on have changed since lineage_
  std::string lineage_;
  int64_t lineage_step_ = 0;
  Instant instant_;
  Remains remains_;  // room for one of each shard
  std::atomic<int64_t> image_bytes_{0};
  std::atomic<int64_t> left_out_{0};
  std::atomic<bool> out_of_memory_{false};
  std::atomic<bool> out_of_reach_{false};
  bool knows_recent_ = false;  // recent_saved is complete
  std::atomic<bool> recent_lost_{false};
  std::atomic<bool> lost_{false};  // a change could not be noted: no delta may follow
  bool lost_before_ = false;       // the running save
};

}  // namespace mxrec
