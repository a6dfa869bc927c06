#include "ssd/compactor.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

namespace mxrec::ssd {
namespace {

// Segments beyond the live records that a log of a few segments may have: two that are open, one
// that compaction keeps in reserve, one that it works on.
constexpr int kSpareSegments = 4;
// Moving the records of a fuller segment wins nothing worth the writing.
constexpr double kMostLive = 0.95;
constexpr auto kRest = std::chrono::milliseconds(50);  // after a failure
// For readers to finish.
constexpr int kGuardWaits = 100;
constexpr auto kGuardWait = std::chrono::milliseconds(10);

std::chrono::steady_clock::time_point Now() { return std::chrono::steady_clock::now(); }

}  // namespace

Compactor::Compactor(Options options, const RecordLayout& layout, LogOwner* owner,
                     RunDirectories* directories, SegmentSet* segments, RecordReader* reader,
                     AppendStream* stream)
    : options_(std::move(options)),
      layout_(layout),
      owner_(owner),
      directories_(directories),
      segments_(segments),
      reader_(reader),
      stream_(stream),
      pages_(options_.piece_records / layout.records_per_page() * layout.page_bytes()),
      keys_(RoundToBlocks(options_.piece_records * sizeof(int64_t)) + kBlockBytes),
      taken_(std::make_unique<bool[]>(options_.piece_records)),
      thread_([this] { Run(); }) {}

Compactor::~Compactor() {
  {
    const MutexLock lock(mu_);
    stop_ = true;
  }
  work_.NotifyAll();
  thread_.join();
}

uint64_t Compactor::Ask() {
  uint64_t asked;
  {
    const MutexLock lock(mu_);
    asked = ++asked_;
  }
  work_.NotifyOne();
  return asked;
}

void Compactor::Wake() { (void)Ask(); }

void Compactor::WakeIfNeeded() {
  if (segments_->Exceeds(options_.start_ratio, kSpareSegments)) Wake();
}

void Compactor::WaitForSpace() {
  if (!segments_->Exceeds(options_.wait_ratio, kSpareSegments + 1)) return;
  const auto start = Now();
  const uint64_t asked = Ask();
  {
    const MutexLock lock(mu_);
    while (idle_at_ < asked && segments_->Exceeds(options_.wait_ratio, kSpareSegments + 1)) {
      stepped_.Wait(mu_);
    }
  }
  wait_micros_ += static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(Now() - start).count());
}

bool Compactor::Reclaim() {
  const uint64_t before = deleted_;
  ++pressing_;
  bool won = false;
  for (int i = 0; i < kGuardWaits && !won; ++i) {
    const uint64_t asked = Ask();
    const MutexLock lock(mu_);
    while (idle_at_ < asked && deleted_ == before) stepped_.Wait(mu_);
    won = deleted_ != before;
    if (won || segments_->totals().retired_bytes == 0) break;
    stepped_.WaitUntil(mu_, Now() + kGuardWait);  // readers still have what it retired
  }
  --pressing_;
  return won;
}

void Compactor::CompactAll() {
  ++pressing_;
  patrol_ = true;
  const uint64_t asked = Ask();
  {
    const MutexLock lock(mu_);
    while (idle_at_ < asked) stepped_.Wait(mu_);
  }
  --pressing_;
}

Status Compactor::TakeError() {
  const MutexLock lock(mu_);
  return std::exchange(error_, {});
}

void Compactor::Report(const Status& status) {
  const MutexLock lock(mu_);
  if (error_.ok()) error_ = status;
}

void Compactor::Stepped() {
  { const MutexLock lock(mu_); }  // whoever is about to wait has looked before, or waits already
  stepped_.NotifyAll();
}

void Compactor::Run() {
  while (true) {
    uint64_t asked;
    {
      const MutexLock lock(mu_);
      if (stop_) return;
      asked = asked_;
    }
    bool failed = false;
    bool did = false;
    try {
      PatrolIfDue();
      did = Step(&failed);
    } catch (const std::bad_alloc&) {  // records that are in two places now are so once more
      failed = true;
      Report(ResourceExhausted("table '" + options_.table +
                               "': no memory to compact its SSD log; it is tried again"));
    }
    const MutexLock lock(mu_);
    if (!did) idle_at_ = asked;
    stepped_.NotifyAll();
    if (did) continue;
    const auto end = Now() + (failed ? kRest : std::chrono::milliseconds(options_.patrol_millis));
    while (!stop_ && (failed || asked_ == asked) && work_.WaitUntil(mu_, end)) {
    }
  }
}

bool Compactor::Step(bool* failed) {
  const bool deleted = DeleteUnread();
  const std::shared_ptr<Segment> victim = NextVictim();
  if (victim == nullptr) return deleted;
  segments_->EndProgress();
  const bool done = Compact(victim);
  segments_->EndProgress();
  *failed = !done;
  return done;
}

std::shared_ptr<Segment> Compactor::NextVictim() const {
  const bool pressing = pressing_ > 0;
  auto victim = segments_->Victim(0.0);
  if (victim == nullptr) victim = segments_->MissingVictim();
  if (victim == nullptr && (pressing || segments_->Exceeds(options_.start_ratio, kSpareSegments))) {
    victim = segments_->Victim(kMostLive);
  }
  if (victim == nullptr && (pressing || segments_->Crowded())) {
    victim = segments_->Victim(kMostLive, SegmentSet::Share::kOfLocations);
  }
  return victim;
}

// Only this thread deletes files, so that one which is not there was deleted by others.
void Compactor::PatrolIfDue() {
  const auto now = Now();
  const bool due = now - patrolled_ >= std::chrono::milliseconds(options_.patrol_millis);
  if (!patrol_.exchange(false) && !due) return;
  patrolled_ = now;
  for (const auto& segment : segments_->NotRetired()) {
    const Status there = directories_->StillThere(segment->name);
    if (there.ok()) continue;
    if (there.code() == StatusCode::kNotFound) {
      if (!segments_->Missing(segment.get())) continue;  // told before
      ++missing_;
    }
    Report(Explain(*segment, there));
  }
}

bool Compactor::DeleteUnread() {
  bool deleted = false;
  for (auto& segment : segments_->TakeUnread()) undeleted_.push_back(std::move(segment));
  std::erase_if(undeleted_, [&](const std::shared_ptr<Segment>& segment) {
    const Status status = directories_->DeleteSegment(segment->path, segment->name, segment->bytes);
    if (!status.ok()) {
      Report(Explain(*segment, status));
      return false;
    }
    ++deleted_;
    deleted = true;
    return true;
  });
  return deleted;
}

// False: not now.
bool Compactor::Compact(const std::shared_ptr<Segment>& victim) {
  bool damaged = false;
  const uint32_t records = victim->written;  // of a sealed one
  for (uint32_t begin = 0; begin < records && victim->live > 0; begin += options_.piece_records) {
    if (stop_) return false;
    const uint32_t end = std::min(records, begin + options_.piece_records);
    const Status status = MovePiece(victim.get(), begin, end, &damaged);
    if (!status.ok()) {
      Report(status);
      return false;
    }
    segments_->Progress(victim->bytes * (end - begin) / records);
    Stepped();
  }
  if (victim->live == 0) {
    segments_->Retire(victim.get());
    ++compacted_;
  } else if (damaged) {
    segments_->Damaged(victim.get());
  }
  return true;
}

// An error that is not of the victim. What is damaged in that stays where it is.
Status Compactor::MovePiece(Segment* victim, uint32_t begin, uint32_t end, bool* damaged) {
  slots_.clear();
  for (uint32_t slot = begin; slot < end; ++slot) {
    if (victim->IsLive(slot)) slots_.push_back(slot);
  }
  if (slots_.empty()) return {};
  MXREC_RETURN_IF_ERROR(stream_->Reserve(slots_.size(), 0));
  const uint32_t per_page = layout_.records_per_page();
  const uint32_t first = slots_.front() / per_page * per_page;
  const uint64_t pages_offset = kPagesOffset + layout_.OffsetOf(first);
  const size_t pages_bytes =
      (slots_.back() / per_page - first / per_page + 1) * static_cast<size_t>(layout_.page_bytes());
  const uint64_t first_key =
      KeysOffset(layout_, victim->written) + slots_.front() * sizeof(int64_t);
  const uint64_t keys_offset = first_key / kBlockBytes * kBlockBytes;
  const size_t keys_bytes = RoundToBlocks(
      first_key + (slots_.back() - slots_.front() + 1) * sizeof(int64_t) - keys_offset);
  Status read = reader_->ReadBlocks(*victim, pages_offset, pages_bytes, pages_.get());
  if (read.ok()) read = reader_->ReadBlocks(*victim, keys_offset, keys_bytes, keys_.get());
  if (!read.ok()) {
    *damaged = true;
    Report(read);
    return {};
  }
  read_bytes_ += pages_bytes + keys_bytes;

  records_.clear();
  moves_.clear();
  for (const uint32_t slot : slots_) {
    int64_t key;
    std::memcpy(&key,
                keys_.get() + (first_key - keys_offset) + (slot - slots_.front()) * sizeof(int64_t),
                sizeof(key));
    const char* const record = pages_.get() + layout_.OffsetOf(slot - first);
    RecordHead head;
    std::memcpy(&head, record, sizeof(head));
    if (head.checksum !=
        RecordChecksum(layout_, {directories_->run(), victim->id, slot, key}, record)) {
      *damaged = true;
      Report(Explain(*victim, DataLoss("cannot move slot " + std::to_string(slot) + " of " +
                                       victim->name + ": it does not match its checksum; " +
                                       "restore the table from its last checkpoint")));
      continue;
    }
    records_.push_back({.key = key,
                        .frequency = head.frequency,
                        .last_time = head.last_time,
                        .metadata = record + sizeof(head),
                        .row = record + sizeof(head) + layout_.metadata_bytes()});
    moves_.push_back({.key = key, .from = segments_->LocationOf(*victim, slot)});
  }
  locations_.resize(records_.size());
  MXREC_RETURN_IF_ERROR(stream_->Append(records_, locations_.data()));
  for (size_t i = 0; i < moves_.size(); ++i) moves_[i].to = locations_[i];
  std::fill_n(taken_.get(), moves_.size(), false);
  owner_->Moved(moves_, taken_.get());
  uint64_t taken = 0;
  for (size_t i = 0; i < moves_.size(); ++i) {
    if (taken_[i]) {
      ++taken;
    } else {
      (void)segments_->MarkDead({&moves_[i].to, 1});
    }
    (void)segments_->MarkDead(victim, segments_->SlotOf(moves_[i].from));
  }
  moved_ += taken;
  refused_ += moves_.size() - taken;
  return {};
}

Status Compactor::Explain(const Segment& segment, const Status& status) const {
  return {status.code(), "table '" + options_.table + "': SSD segment " +
                             std::to_string(segment.id) + ": " + status.message()};
}

Compactor::Counts Compactor::counts() const {
  return {compacted_, moved_, refused_, read_bytes_, deleted_, wait_micros_, missing_};
}

}  // namespace mxrec::ssd
