#include "ssd/append_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mxrec::ssd {

AppendStream::AppendStream(std::string table, StreamKind kind, const RecordLayout& layout,
                           uint32_t chunk_records, uint64_t segment_bytes,
                           RunDirectories* directories, SegmentSet* segments, LogWriter* writer,
                           AppendStream* reserve)
    : table_(std::move(table)),
      kind_(kind),
      layout_(layout),
      chunk_records_(chunk_records),
      segment_bytes_(segment_bytes),
      directories_(directories),
      segments_(segments),
      writer_(writer),
      reserve_(reserve) {}

Status AppendStream::Reserve(size_t records, size_t spare) {
  const MutexLock lock(mu_);
  return ReserveLocked(records, spare);
}

Status AppendStream::ReserveLocked(size_t records, size_t spare) {
  const uint64_t capacity = segments_->segment_records();
  const uint64_t room = open_ == nullptr ? 0 : capacity - next_slot_;
  const uint64_t beyond = records > room ? records - room : 0;
  const uint64_t wanted = (beyond + capacity - 1) / capacity + spare;
  while (spares_.size() < wanted) {
    if (reserve_ != nullptr) MXREC_RETURN_IF_ERROR(reserve_->Reserve(0, 1));
    auto segment = segments_->Make();
    if (segment == nullptr) {
      return ResourceExhausted(
          "table '" + table_ + "': all " + std::to_string(kLocationLimit) +
          " places of its SSD log are taken; lower ssd_vocabulary_size (ssd_rows)");
    }
    auto file = directories_->CreateSegment(segment->id, segment_bytes_);
    if (!file.ok()) {
      segments_->Give(*segment);
      return file.status();
    }
    segment->path = file.value().path;
    segment->name = std::move(file.value().name);
    segment->file = std::move(file.value().file);
    segment->bytes = segment_bytes_;
    segments_->Add(segment);
    spares_.push_back(std::move(segment));
  }
  return {};
}

Status AppendStream::Append(std::span<const RecordIn> records, uint32_t* locations) {
  const Status failed = writer_->error();
  if (!failed.ok()) {
    writer_->Retry();
    return failed;
  }
  const MutexLock lock(mu_);
  MXREC_RETURN_IF_ERROR(ReserveLocked(records.size(), 0));
  size_t done = 0;
  const Status status = AppendLocked(records, locations, &done);
  if (!status.ok()) {
    (void)segments_->MarkDead({locations, done});  // nobody has seen them
    return status;
  }
  appended_ += records.size();
  return {};
}

Status AppendStream::AppendLocked(std::span<const RecordIn> records, uint32_t* locations,
                                  size_t* done) {
  while (*done < records.size()) {
    if (chunk_ == nullptr) MXREC_RETURN_IF_ERROR(NextChunk());
    const auto count = static_cast<uint32_t>(
        std::min<size_t>(records.size() - *done, chunk_records_ - chunk_->records));
    for (uint32_t i = 0; i < count; ++i) {
      const RecordIn& record = records[*done + i];
      char* const to = chunk_->data.get() + layout_.OffsetOf(chunk_->records + i);
      const uint32_t words[2] = {record.frequency, record.last_time};
      std::memcpy(to + offsetof(RecordHead, frequency), words, sizeof(words));
      if (layout_.metadata_bytes() > 0) {
        std::memcpy(to + sizeof(RecordHead), record.metadata, layout_.metadata_bytes());
      }
      std::memcpy(to + sizeof(RecordHead) + layout_.metadata_bytes(), record.row,
                  layout_.row_bytes());
      open_->keys[next_slot_ + i] = record.key;
      segments_->MarkLive(open_.get(), next_slot_ + i);
      locations[*done + i] = segments_->LocationOf(*open_, next_slot_ + i);
    }
    chunk_->records += count;
    next_slot_ += count;
    *done += count;
    segments_->Appended(open_.get(), count);
    if (chunk_->records == chunk_records_) SubmitChunk();
  }
  return {};
}

Status AppendStream::NextChunk() {
  auto chunk = writer_->TakeChunk(kind_);
  if (!chunk.ok()) return chunk.status();
  if (open_ == nullptr) {
    open_ = std::move(spares_.front());  // reserved before
    spares_.pop_front();
    next_slot_ = 0;
  }
  chunk.value()->first_slot = next_slot_;
  segments_->AddChunk(open_.get(), chunk.value());
  chunk_ = std::move(chunk).value();
  return {};
}

void AppendStream::SubmitChunk() {
  const bool seal = next_slot_ == segments_->segment_records();
  writer_->Submit(open_, std::move(chunk_), kind_, seal);
  chunk_.reset();
  if (seal) open_.reset();
}

void AppendStream::Seal() {
  const MutexLock lock(mu_);
  if (open_ == nullptr) return;
  writer_->Submit(open_, std::move(chunk_), kind_, true);
  chunk_.reset();
  open_.reset();
}

}  // namespace mxrec::ssd
