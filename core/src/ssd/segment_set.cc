#include "ssd/segment_set.h"

#include <algorithm>
#include <new>
#include <utility>

namespace mxrec::ssd {
namespace {

// That two streams have: one each that is being filled, and one that compaction keeps in reserve.
constexpr double kOpenSegments = 3;

}  // namespace

SegmentSet::SegmentSet(uint32_t segment_records, uint64_t segment_bytes, double record_bytes,
                       uint32_t payload_bytes)
    : segment_records_(segment_records),
      segment_bytes_(segment_bytes),
      record_bytes_(record_bytes),
      payload_bytes_(payload_bytes) {}

std::shared_ptr<Segment> SegmentSet::Make() {
  const MutexLock lock(mu_);
  uint32_t number = 0;
  if (!free_numbers_.empty()) {
    number = free_numbers_.back();
    free_numbers_.pop_back();
  } else {
    if (segments_.size() >= kLocationLimit / segment_records_) return nullptr;
    number = static_cast<uint32_t>(segments_.size());
    segments_.emplace_back();
  }
  try {
    return std::make_shared<Segment>(number, next_id_++, segment_records_);
  } catch (const std::bad_alloc&) {
    free_numbers_.push_back(number);
    throw;
  }
}

void SegmentSet::Give(const Segment& segment) {
  const MutexLock lock(mu_);
  free_numbers_.push_back(segment.number);
}

void SegmentSet::Add(std::shared_ptr<Segment> segment) {
  bytes_ += segment->bytes;
  unfilled_ += segment->bytes;
  const MutexLock lock(mu_);
  segments_[segment->number] = std::move(segment);
}

bool SegmentSet::MarkDead(Segment* segment, uint32_t slot) {
  if (!segment->MarkDead(slot)) return false;
  --live_;
  return segment->live == 0;
}

bool SegmentSet::MarkDead(std::span<const uint32_t> locations) {
  bool emptied = false;
  const MutexLock lock(mu_);
  for (const uint32_t location : locations) {
    const uint32_t number = NumberOf(location);
    if (number >= segments_.size() || segments_[number] == nullptr) continue;
    emptied |= MarkDead(segments_[number].get(), SlotOf(location));
  }
  return emptied;
}

size_t SegmentSet::Find(std::span<const uint32_t> locations, Found* found) const {
  *found = {};
  const uint32_t number = NumberOf(locations[0]);
  const uint32_t slot = SlotOf(locations[0]);
  const MutexLock lock(mu_);
  uint32_t end = slot + 1;  // of the slots with the same answer
  if (number < segments_.size() && segments_[number] != nullptr &&
      slot < segments_[number]->records) {
    found->segment = segments_[number];
    end = found->segment->written;
    if (slot >= end) {
      const auto& chunks = found->segment->chunks;
      const auto after =
          std::upper_bound(chunks.begin(), chunks.end(), slot,
                           [](uint32_t s, const auto& chunk) { return s < chunk->first_slot; });
      found->chunk = *std::prev(after);
      end = after == chunks.end() ? found->segment->records : (*after)->first_slot;
    }
  }
  const uint64_t limit = static_cast<uint64_t>(number) * segment_records_ + end;
  return static_cast<size_t>(std::lower_bound(locations.begin(), locations.end(), limit) -
                             locations.begin());
}

void SegmentSet::AddChunk(Segment* segment, std::shared_ptr<Chunk> chunk) {
  const MutexLock lock(mu_);
  segment->chunks.push_back(std::move(chunk));
}

void SegmentSet::Appended(Segment* segment, uint32_t records) {
  const MutexLock lock(mu_);
  const uint64_t before = UnfilledBytes(*segment);
  segment->records += records;
  unfilled_ -= before - UnfilledBytes(*segment);
}

uint64_t SegmentSet::UnfilledBytes(const Segment& segment) const {
  return segment_bytes_ * (segment_records_ - segment.records) / segment_records_;
}

void SegmentSet::ChunkWritten(Segment* segment, uint32_t records) {
  std::shared_ptr<Chunk> done;  // freed without the lock
  const MutexLock lock(mu_);
  segment->written += records;
  done = std::move(segment->chunks.front());
  segment->chunks.pop_front();
}

void SegmentSet::Sealed(Segment* segment, uint64_t bytes) {
  const MutexLock lock(mu_);
  unfilled_ -= UnfilledBytes(*segment);
  bytes_ -= segment->bytes - bytes;
  segment->bytes = bytes;
  segment->state = SegmentState::kSealed;
  segment->sealed_at = ++epoch_;
  segment->keys.reset();
}

bool SegmentSet::IsSealed(const Segment& segment) const {
  const MutexLock lock(mu_);
  return segment.state != SegmentState::kOpen;
}

uint64_t SegmentSet::Enter() {
  const MutexLock lock(mu_);
  ++guards_[epoch_];
  return epoch_;
}

void SegmentSet::Leave(uint64_t epoch) {
  const MutexLock lock(mu_);
  const auto guard = guards_.find(epoch);
  if (--guard->second == 0) guards_.erase(guard);
}

std::shared_ptr<Segment> SegmentSet::Victim(double most_live, Share share) const {
  std::shared_ptr<Segment> best;
  double least = most_live;
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment == nullptr || segment->state != SegmentState::kSealed) continue;
    if (segment->live > 0 && (MayBeUnpublished(*segment) || segment->damaged)) continue;
    const double live = share == Share::kOfBytes
                            ? segment->live * record_bytes_ / static_cast<double>(segment->bytes)
                            : static_cast<double>(segment->live) / segment->capacity;
    if (live > least || (best != nullptr && live == least)) continue;
    best = segment;
    least = live;
  }
  return best;
}

std::shared_ptr<Segment> SegmentSet::MissingVictim() const {
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment == nullptr || segment->state != SegmentState::kSealed) continue;
    if (segment->missing && !segment->damaged && !MayBeUnpublished(*segment)) return segment;
  }
  return nullptr;
}

bool SegmentSet::Missing(Segment* segment) {
  const MutexLock lock(mu_);
  return !std::exchange(segment->missing, true);
}

std::vector<std::shared_ptr<Segment>> SegmentSet::NotRetired() const {
  std::vector<std::shared_ptr<Segment>> all;
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment != nullptr && segment->state != SegmentState::kRetired) all.push_back(segment);
  }
  return all;
}

bool SegmentSet::Crowded() const {
  constexpr double kMost = 2.0;  // space alone allows 1.5
  constexpr double kSpare = 8.0;
  double used = 0;
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment == nullptr || segment->state == SegmentState::kRetired) continue;
    used += segment->records > 0 ? 1 : 0;
  }
  return used > kMost * static_cast<double>(live_.load()) / segment_records_ + kSpare;
}

void SegmentSet::Damaged(Segment* segment) {
  segment->unreadable = true;
  const MutexLock lock(mu_);
  segment->damaged = true;
}

void SegmentSet::Retire(Segment* segment) {
  const MutexLock lock(mu_);
  segment->state = SegmentState::kRetired;
  segment->retired_at = ++epoch_;
  bytes_ -= segment->bytes;
  retired_.push_back(segments_[segment->number]);
}

std::vector<std::shared_ptr<Segment>> SegmentSet::TakeUnread() {
  std::vector<std::shared_ptr<Segment>> unread;
  const MutexLock lock(mu_);
  const uint64_t oldest = guards_.empty() ? epoch_ : guards_.begin()->first;
  std::erase_if(retired_, [&](const std::shared_ptr<Segment>& segment) {
    if (segment->retired_at > oldest || segment->pins > 0) return false;
    unread.push_back(segment);
    return true;
  });
  for (const auto& segment : unread) {
    segments_[segment->number].reset();
    free_numbers_.push_back(segment->number);
  }
  return unread;
}

bool SegmentSet::HasRetired() const {
  const MutexLock lock(mu_);
  return !retired_.empty();
}

bool SegmentSet::Exceeds(double ratio, int spare) const {
  const auto live = static_cast<double>(live_.load());
  const auto segment = static_cast<double>(segment_bytes_);
  const double unfilled = std::min(static_cast<double>(unfilled_), kOpenSegments * segment);
  const double bytes = static_cast<double>(bytes_) + kOpenSegments / 2 * segment - unfilled -
                       static_cast<double>(progress_);
  return bytes > std::max(ratio * live * payload_bytes_, live * record_bytes_ + spare * segment);
}

std::vector<std::shared_ptr<Segment>> SegmentSet::PinSealed() {
  std::vector<std::shared_ptr<Segment>> pinned;
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment == nullptr || segment->state == SegmentState::kOpen) continue;
    ++segment->pins;
    pinned.push_back(segment);
  }
  return pinned;
}

void SegmentSet::Unpin(const std::vector<std::shared_ptr<Segment>>& segments) {
  const MutexLock lock(mu_);
  for (const auto& segment : segments) --segment->pins;
}

SegmentSet::Totals SegmentSet::totals() const {
  Totals totals;
  totals.live_records = live_;
  const MutexLock lock(mu_);
  for (const auto& segment : segments_) {
    if (segment == nullptr) continue;
    if (segment->state == SegmentState::kRetired) {
      totals.retired_bytes += segment->bytes;
      continue;
    }
    ++totals.segments;
    totals.sealed += segment->state == SegmentState::kSealed ? 1 : 0;
    totals.bytes += segment->bytes;
  }
  return totals;
}

}  // namespace mxrec::ssd
