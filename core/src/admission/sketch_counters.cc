#include "admission/sketch_counters.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace mxrec {
namespace {

// The counters of a key, one in each section, chosen by the low half of its hash: the high half
// chooses the block.
std::array<uint32_t, SketchBlock::kSections> CountersOf(uint64_t hash) {
  std::array<uint32_t, SketchBlock::kSections> counters;
  for (uint32_t i = 0; i < counters.size(); ++i) {
    const uint32_t byte = static_cast<uint32_t>(hash >> (8 * i)) & 255;
    counters[i] = i * SketchBlock::kPerSection + (byte * SketchBlock::kPerSection >> 8);
  }
  return counters;
}

uint32_t Least(const SketchBlock& block, const std::array<uint32_t, 4>& counters) {
  uint32_t least = SketchBlock::kMost;
  for (const uint32_t counter : counters) least = std::min(least, block.Get(counter));
  return least;
}

bool IsEmpty(const SketchBlock& block) {
  constexpr SketchBlock kEmpty = {};
  return std::memcmp(&block, &kEmpty, sizeof(block)) == 0;
}

void Age(SketchBlock* block) {
  for (uint8_t& pair : block->nibbles) pair = (pair >> 1) & 0x77;
  block->arrivals /= 2;
}

}  // namespace

uint64_t SketchCounters::Blocks(int64_t expected_keys) {
  const uint64_t wanted = static_cast<uint64_t>(expected_keys) / kKeysPerBlock;
  return std::max<uint64_t>(wanted / kMaxShards, 1) * kMaxShards;
}

SketchCounters::SketchCounters(PageAllocator* pages, int64_t expected_keys, int shard_bits,
                               uint32_t shard)
    : pages_(pages),
      blocks_(Blocks(expected_keys)),
      own_(blocks_ >> shard_bits),
      first_(own_ * shard),
      chunks_((own_ + kChunkBlocks - 1) / kChunkBlocks) {}

SketchCounters::~SketchCounters() {
  for (uint64_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    if (chunks_[chunk] != nullptr) pages_->Free(chunks_[chunk], ChunkBytes(chunk));
  }
}

void SketchCounters::Prefetch(uint64_t hash) const { mxrec::Prefetch(At(BlockOf(hash))); }

KeyCount SketchCounters::Peek(uint64_t hash, int64_t /*key*/) const {
  const SketchBlock* block = At(BlockOf(hash));
  if (block == nullptr) return {};
  return {.count = Least(*block, CountersOf(hash))};
}

SketchBlock* SketchCounters::Make(uint64_t block) {
  SketchBlock*& chunk = chunks_[block / kChunkBlocks];
  if (chunk == nullptr) {
    const bool huge = chunks_.size() > 4;  // a small sketch stays on small pages
    chunk = static_cast<SketchBlock*>(
        pages_->Allocate(ChunkBytes(block / kChunkBlocks), huge, PageAllocator::Contents::kZero));
  }
  return At(block);
}

uint32_t SketchCounters::Reserve(uint64_t hash, int64_t /*key*/, bool* fresh) {
  *fresh = false;
  return Make(BlockOf(hash)) == nullptr ? kNothing : 0;
}

void SketchCounters::Commit(uint64_t hash, int64_t /*key*/, uint32_t /*place*/, uint32_t more,
                            uint32_t /*time*/) {
  SketchBlock* block = At(BlockOf(hash));
  Touch(BlockOf(hash));
  const auto counters = CountersOf(hash);
  const uint32_t least = Least(*block, counters);
  const uint32_t raised = std::min(AddSaturating(least, more), SketchBlock::kMost);
  for (const uint32_t counter : counters) {
    if (block->Get(counter) < raised) block->Set(counter, raised);
  }
  if (least == 0 && ++block->arrivals >= kAgeAt) Age(block);
}

int64_t SketchCounters::ForgetOld(uint32_t /*cutoff*/, uint64_t* position,
                                  std::vector<int64_t>* /*gone*/) {
  *position = uint64_t{1} << 32;
  return 0;
}

void SketchCounters::Scan(std::optional<uint32_t> /*cutoff*/, uint64_t* position,
                          RowBlock* block) const {
  const uint64_t chunk = *position;
  if (chunk < chunks_.size() && chunks_[chunk] != nullptr) {
    const uint64_t begin = chunk * kChunkBlocks;
    for (uint64_t b = begin; b < std::min(own_, begin + kChunkBlocks); ++b) {
      if (!IsEmpty(*At(b))) Write(b, *At(b), block);
    }
  }
  *position = chunk + 1 < chunks_.size() ? chunk + 1 : uint64_t{1} << 32;
}

KeyCounters::Loaded SketchCounters::Load(const RowBlock& block, size_t row, bool replaces) {
  SketchBlock* to = Make(static_cast<uint64_t>(block.keys[row]) - first_);
  if (to == nullptr) return Loaded::kNoMemory;
  if (!IsEmpty(*to) && !replaces) return Loaded::kTwice;
  std::memcpy(to, block.values.data() + row * (sizeof(*to) / sizeof(float)), sizeof(*to));
  return Loaded::kDone;
}

void SketchCounters::Write(uint64_t number, const SketchBlock& from, RowBlock* block) const {
  constexpr size_t kFloats = sizeof(SketchBlock) / sizeof(float);
  block->keys.push_back(static_cast<int64_t>(first_ + number));
  block->frequency.push_back(0);
  block->last_time.push_back(0);
  block->values.resize(block->values.size() + kFloats);
  std::memcpy(block->values.data() + block->values.size() - kFloats, &from, sizeof(from));
}

// --- Saving -------------------------------------------------------------------------------------

bool SketchCounters::Track(bool on) { return changed_.Track(on, own_); }

void SketchCounters::Touch(uint64_t block) {
  changed_.Mark(block);
  if (!saving_ || block < scanned_ || (delta_ && !changed_.Then(block))) return;
  try {
    replaced_.try_emplace(block, *At(block));
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
}

void SketchCounters::BeginSave(const SavedPart& part) {
  changed_.BeginSave();
  delta_ = part.delta;
  scanned_ = 0;
  lost_ = false;
  saving_ = true;
}

void SketchCounters::ScanSaved(uint64_t* position, RowBlock* block) {
  const uint64_t chunk = *position;
  const uint64_t begin = chunk * kChunkBlocks, end = std::min(own_, begin + kChunkBlocks);
  for (uint64_t b = begin; b < end && chunks_[chunk] != nullptr; ++b) {
    if (delta_ && !changed_.Then(b)) continue;
    const auto replaced = replaced_.find(b);
    const SketchBlock& from = replaced == replaced_.end() ? *At(b) : replaced->second;
    // A block may have become empty since the version before.
    if (delta_ || !IsEmpty(from)) Write(b, from, block);
    if (replaced != replaced_.end()) replaced_.erase(replaced);
  }
  scanned_ = end;
  *position = chunk + 1 < chunks_.size() ? chunk + 1 : uint64_t{1} << 32;
}

void SketchCounters::EndSave(bool follows) {
  if (!saving_) return;
  saving_ = false;
  changed_.EndSave(follows);
  std::unordered_map<uint64_t, SketchBlock>().swap(replaced_);
}

int64_t SketchCounters::page_bytes() const {
  size_t made = 0;
  for (uint64_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    if (chunks_[chunk] == nullptr) continue;
    made += (ChunkBytes(chunk) + kSmallPage - 1) / kSmallPage * kSmallPage;
  }
  return static_cast<int64_t>(made);
}

int64_t SketchCounters::bytes() const {
  return page_bytes() + static_cast<int64_t>(chunks_.capacity() * sizeof(SketchBlock*));
}

}  // namespace mxrec
