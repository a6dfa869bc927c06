#include "ssd/record_reader.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace mxrec::ssd {
namespace {

constexpr uint64_t kMaxRequestBytes = 128 << 10;  // of one read, but for larger records
constexpr size_t kMaxLaneBytes = 64 << 20;        // of a lane's buffers
constexpr size_t kMaxPlannedReads = 1 << 16;      // of a call at a time

}  // namespace

RecordReader::RecordReader(Env* env, Options options, const RecordLayout& layout, uint64_t run,
                           SegmentSet* segments)
    : env_(env),
      options_(std::move(options)),
      layout_(layout),
      run_(run),
      segments_(segments),
      buffer_bytes_(std::max(kMaxRequestBytes, RoundToBlocks(layout.record_bytes()) + kBlockBytes)),
      depth_(static_cast<uint32_t>(
          std::clamp<size_t>(kMaxLaneBytes / buffer_bytes_, 1, options_.depth))) {}

// Gives the lane back at the end of a call.
class RecordReader::LaneLease {
 public:
  LaneLease(RecordReader* owner, std::unique_ptr<Lane> lane)
      : owner_(owner), lane_(std::move(lane)) {}
  ~LaneLease() { owner_->ReturnLane(std::move(lane_)); }
  LaneLease(const LaneLease&) = delete;
  LaneLease& operator=(const LaneLease&) = delete;
  Lane* get() const { return lane_.get(); }

 private:
  RecordReader* const owner_;
  std::unique_ptr<Lane> lane_;
};

Result<std::unique_ptr<RecordReader>> RecordReader::Create(Env* env, Options options,
                                                           const RecordLayout& layout, uint64_t run,
                                                           SegmentSet* segments) {
  auto self = std::unique_ptr<RecordReader>(
      new RecordReader(env, std::move(options), layout, run, segments));
  auto lane = self->options_.prefer_uring
                  ? self->NewLane(ReadMethod::kUring)
                  : Result<std::unique_ptr<Lane>>(IoError("io_uring is not wanted"));
  if (lane.ok()) {
    self->method_ = ReadMethod::kUring;
  } else {
    self->why_pread_ = lane.status().message();
    lane = self->NewLane(ReadMethod::kPread);
    if (!lane.ok()) return lane.status();
  }
  const MutexLock lock(self->mu_);
  self->idle_.push_back(std::move(lane).value());
  self->lanes_ = 1;
  self->idle_.reserve(self->options_.max_readers);  // so that giving one back cannot fail
  return self;
}

Result<std::unique_ptr<RecordReader::Lane>> RecordReader::NewLane(ReadMethod method) const {
  auto reader = env_->NewBatchReader(method, depth_);
  if (!reader.ok()) return reader.status();
  auto lane = std::make_unique<Lane>();
  lane->reader = std::move(reader).value();
  lane->memory = std::make_unique<AlignedBytes>(depth_ * buffer_bytes_, false);
  const MutexLock lock(lane->mu);
  for (uint32_t i = depth_; i > 0; --i) {
    lane->free_buffers.push_back(lane->memory->get() + (i - 1) * buffer_bytes_);
  }
  return lane;
}

// There is one from the start: when the system gives no more, calls take turns.
std::unique_ptr<RecordReader::Lane> RecordReader::TakeLane() {
  MutexLock lock(mu_);
  if (idle_.empty() && lanes_ < options_.max_readers) {
    ++lanes_;
    lock.unlock();
    try {
      auto lane = NewLane(method_);
      if (lane.ok()) return std::move(lane).value();
    } catch (const std::bad_alloc&) {  // as when the system gives no ring
    }
    lock.lock();
    --lanes_;
  }
  while (idle_.empty()) returned_.Wait(mu_);
  auto lane = std::move(idle_.back());
  idle_.pop_back();
  return lane;
}

void RecordReader::ReturnLane(std::unique_ptr<Lane> lane) {
  lane->plans.clear();
  {
    const MutexLock lock(mu_);
    idle_.push_back(std::move(lane));
  }
  returned_.NotifyOne();
}

Status RecordReader::Read(std::span<RecordOut> records) {
  if (records.empty()) return {};
  const LaneLease lease(this, TakeLane());
  Lane* const lane = lease.get();

  lane->order.clear();
  lane->reads.clear();
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].ok = false;
    lane->order.push_back(static_cast<uint64_t>(records[i].location) << 32 | i);
  }
  std::sort(lane->order.begin(), lane->order.end());
  lane->locations.clear();
  for (const uint64_t entry : lane->order) {
    lane->locations.push_back(static_cast<uint32_t>(entry >> 32));
  }

  Status first;
  for (size_t begin = 0; begin < records.size();) {
    SegmentSet::Found found;
    const std::span<const uint32_t> rest = std::span(lane->locations).subspan(begin);
    size_t end = begin + segments_->Find(rest, &found);
    if (found.segment == nullptr) {
      const RecordOut& record = records[static_cast<uint32_t>(lane->order[begin])];
      if (first.ok()) {
        first = Internal("table '" + options_.table + "': SSD location " +
                         std::to_string(record.location) + " of key " + std::to_string(record.key) +
                         " names no record");
      }
    } else if (found.chunk != nullptr) {
      for (size_t i = begin; i < end; ++i) {
        RecordOut& record = records[static_cast<uint32_t>(lane->order[i])];
        const uint32_t slot = segments_->SlotOf(record.location) - found.chunk->first_slot;
        CopyFrom(found.chunk->data.get() + layout_.OffsetOf(slot), &record);
      }
      buffered_ += end - begin;
    } else {
      end = std::min(end, begin + kMaxPlannedReads);
      PlanReads(lane, records, found.segment, begin, end);
      if (lane->reads.size() >= kMaxPlannedReads) {
        const Status status = RunReads(lane, records);
        if (first.ok()) first = status;
      }
    }
    begin = end;
  }
  const Status status = RunReads(lane, records);
  return first.ok() ? status : first;
}

void RecordReader::CopyFrom(const void* record, RecordOut* out) const {
  const char* const from = static_cast<const char*>(record);
  uint32_t words[2];
  std::memcpy(words, from + offsetof(RecordHead, frequency), sizeof(words));
  out->frequency = words[0];
  out->last_time = words[1];
  if (out->metadata != nullptr) {
    std::memcpy(out->metadata, from + sizeof(RecordHead), layout_.metadata_bytes());
  }
  std::memcpy(out->row, from + sizeof(RecordHead) + layout_.metadata_bytes(), layout_.row_bytes());
  out->ok = true;
}

void RecordReader::PlanReads(Lane* lane, std::span<RecordOut> records,
                             const std::shared_ptr<Segment>& segment, size_t begin, size_t end) {
  bool fresh = true;  // the next read is none of another segment
  for (size_t i = begin; i < end; ++i) {
    const RecordOut& record = records[static_cast<uint32_t>(lane->order[i])];
    const uint64_t offset = kPagesOffset + layout_.OffsetOf(segments_->SlotOf(record.location));
    const uint64_t from = offset / kBlockBytes * kBlockBytes;
    const uint64_t to = RoundToBlocks(offset + layout_.record_bytes());
    if (!fresh) {
      BlockRead& last = lane->reads.back();
      const uint64_t last_end = last.offset + last.bytes;
      if (from <= last_end && to - last.offset <= kMaxRequestBytes) {
        last.bytes = std::max(last_end, to) - last.offset;
        lane->plans.back().end = static_cast<uint32_t>(i + 1);
        continue;
      }
    }
    fresh = false;
    lane->reads.push_back({.file = segment->file.get(),
                           .offset = from,
                           .bytes = to - from,
                           .out = nullptr,
                           .status = {}});
    lane->plans.push_back({segment, static_cast<uint32_t>(i), static_cast<uint32_t>(i + 1)});
  }
}

Status RecordReader::RunReads(Lane* lane, std::span<RecordOut> records) {
  if (lane->reads.empty()) return {};
  size_t bytes = 0;
  size_t served = 0;
  for (size_t i = 0; i < lane->reads.size(); ++i) {
    bytes += lane->reads[i].bytes;
    served += lane->plans[i].end - lane->plans[i].begin;
  }
  const auto start = [&](BlockRead& read) {
    const MutexLock lock(lane->mu);
    read.out = lane->free_buffers.back();
    lane->free_buffers.pop_back();
  };
  const auto done = [&](BlockRead& read) {
    Check(*lane, &read, records);
    const MutexLock lock(lane->mu);
    lane->free_buffers.push_back(static_cast<char*>(read.out));
  };
  lane->reader->Read(lane->reads, start, done);
  records_ += served;
  requests_ += lane->reads.size();
  blocks_ += bytes / kBlockBytes;

  Status first;
  for (size_t i = 0; i < lane->reads.size(); ++i) {
    if (lane->reads[i].status.ok()) continue;
    lane->plans[i].segment->unreadable = true;
    if (first.ok()) first = Explain(*lane->plans[i].segment, lane->reads[i].status);
  }
  lane->reads.clear();
  lane->plans.clear();
  return first;
}

// Of one read; runs on any thread, for several reads at the same time.
void RecordReader::Check(const Lane& lane, BlockRead* read, std::span<RecordOut> records) const {
  if (!read->status.ok()) return;
  const Lane::Plan& plan = lane.plans[static_cast<size_t>(read - lane.reads.data())];
  for (uint32_t i = plan.begin; i < plan.end; ++i) {
    RecordOut& record = records[static_cast<uint32_t>(lane.order[i])];
    const uint32_t slot = segments_->SlotOf(record.location);
    const char* const data = static_cast<const char*>(read->out) +
                             (kPagesOffset + layout_.OffsetOf(slot) - read->offset);
    uint64_t stored;
    std::memcpy(&stored, data, sizeof(stored));
    if (stored == RecordChecksum(layout_, {run_, plan.segment->id, slot, record.key}, data)) {
      CopyFrom(data, &record);
      continue;
    }
    read->status =
        DataLoss("cannot read " + plan.segment->name + ": the record of key " +
                 std::to_string(record.key) + " in slot " + std::to_string(slot) +
                 " does not match its checksum; restore the table from its last checkpoint");
  }
}

Status RecordReader::ReadBlocks(const Segment& segment, uint64_t offset, size_t bytes, void* out) {
  const LaneLease lease(this, TakeLane());
  std::vector<BlockRead> reads;
  for (size_t at = 0; at < bytes; at += kMaxRequestBytes) {
    reads.push_back({.file = segment.file.get(),
                     .offset = offset + at,
                     .bytes = std::min<size_t>(kMaxRequestBytes, bytes - at),
                     .out = static_cast<char*>(out) + at,
                     .status = {}});
  }
  const auto nothing = [](BlockRead&) {};
  lease.get()->reader->Read(reads, nothing, nothing);
  for (const BlockRead& read : reads) {
    if (!read.status.ok()) return Explain(segment, read.status);
  }
  return {};
}

Status RecordReader::Explain(const Segment& segment, const Status& status) const {
  return {status.code(), "table '" + options_.table + "': SSD segment " +
                             std::to_string(segment.id) + ": " + status.message()};
}

RecordReader::Counts RecordReader::counts() const {
  return {records_, buffered_, requests_, blocks_};
}

}  // namespace mxrec::ssd
