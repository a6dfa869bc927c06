// KeyCounters: how often keys without a row were seen: what admission decides by.
//
// One object per shard. A batch first peeks at the counts of all its keys, decides, makes rows, and
// only when nothing can fail any more commits what it counted; so its decisions depend neither on
// the order of its keys nor on threads or shards.
//
// Not thread-safe: the shard's lock guards it; const methods may run concurrently.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/table.h"
#include "util/page_allocator.h"

namespace mxrec {

// Counts stop at the largest value that they can have.
inline uint32_t AddSaturating(uint32_t count, uint64_t more) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(count + more, std::numeric_limits<uint32_t>::max()));
}

struct KeyCount {
  uint32_t count = 0;
  uint32_t last_time = 0;  // of the last training use
};

class KeyCounters {
 public:
  static constexpr uint32_t kNothing = 0xFFFFFFFFu;

  // Of shard `shard` of 2^shard_bits. Null: no memory.
  static std::unique_ptr<KeyCounters> Make(const AdmissionOptions& options, PageAllocator* pages,
                                           int shard_bits, uint32_t shard);
  virtual ~KeyCounters() = default;

  virtual void Prefetch(uint64_t hash) const = 0;
  // The count of a key that has no row; 0: never seen.
  virtual KeyCount Peek(uint64_t hash, int64_t key) const = 0;

  // Makes room for a count, so that Commit cannot fail. *fresh: there was none, and Forget takes it
  // back. Returns the place, for Commit; kNothing: no memory.
  virtual uint32_t Reserve(uint64_t hash, int64_t key, bool* fresh) = 0;
  // Counts a key for which Reserve has made room: `more` occurrences, the last one at `time`.
  virtual void Commit(uint64_t hash, int64_t key, uint32_t place, uint32_t more, uint32_t time) = 0;
  // The key has a row now, or is forgotten.
  virtual void Forget(uint64_t hash, int64_t key) = 0;

  // --- Eviction by age. A count is old when its last use is not after `cutoff`, unless it was
  // reprieved since EndSweep.
  virtual bool Old(uint64_t hash, int64_t key, uint32_t cutoff) const = 0;
  virtual void Reprieve(uint64_t hash, int64_t key) = 0;
  virtual void EndSweep() = 0;
  // Forgets the old counts of the next part, from *position; 2^32: done. Adds their keys to *gone,
  // unless it is null. Returns how many counts it looked at.
  virtual int64_t ForgetOld(uint32_t cutoff, uint64_t* position, std::vector<int64_t>* gone) = 0;

  // Export: keys, counts and times (exact), or raw blocks (sketch), as rows of a RowBlock; without
  // those that are old at `cutoff`, if there is one. Works on from *position, 2^32: done.
  virtual void Scan(std::optional<uint32_t> cutoff, uint64_t* position, RowBlock* block) const = 0;
  // One row of a saved block that belongs to this shard. replaces: it may be there already, from
  // the version before.
  enum class Loaded : uint8_t { kDone, kTwice, kNoMemory };
  virtual Loaded Load(const RowBlock& block, size_t row, bool replaces) = 0;

  // --- Saving the counts of one instant while they go on changing (ChangeTracker does it for
  // rows). Whether to note which counts change, for deltas. False: no memory.
  virtual bool Track(bool on) = 0;
  struct SavedPart {
    bool delta = false;              // those alone that changed since the version before
    std::optional<uint32_t> cutoff;  // counts that are old at it have gone
  };
  // Fixes the instant. May throw; then nothing has happened.
  virtual void BeginSave(const SavedPart& part) = 0;
  // As Scan, of the instant.
  virtual void ScanSaved(uint64_t* position, RowBlock* block) = 0;
  // Of a delta, adds the keys whose counts were old at the cutoff, as far as they have been passed.
  virtual void AddExpired(std::vector<int64_t>* keys) const = 0;
  // follows: the next delta builds on this save.
  virtual void EndSave(bool follows) = 0;
  // A change could not be noted: the save is not the instant.
  virtual bool lost() const = 0;

  virtual int64_t keys() const = 0;        // with a count; 0 where that is not known
  virtual int64_t bytes() const = 0;       // held from the operating system
  virtual int64_t page_bytes() const = 0;  // of them, pieces of the page allocator
};

}  // namespace mxrec
