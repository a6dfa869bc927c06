#include "ssd/log_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace mxrec::ssd {

LogWriter::LogWriter(Options options, const RecordLayout& layout, RunDirectories* directories,
                     SegmentSet* segments, std::function<void()> on_sealed)
    : options_(std::move(options)),
      layout_(layout),
      directories_(directories),
      segments_(segments),
      on_sealed_(std::move(on_sealed)),
      footer_(SegmentFileBytes(layout, segments->segment_records()) -
              KeysOffset(layout, segments->segment_records())),
      thread_([this] { Run(); }) {}

LogWriter::~LogWriter() { Stop(); }

void LogWriter::Stop() {
  {
    const MutexLock lock(mu_);
    stop_ = true;
  }
  work_.NotifyAll();
  progress_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

Result<std::shared_ptr<Chunk>> LogWriter::TakeChunk(StreamKind kind) {
  const uint32_t limit =
      kind == StreamKind::kOwner ? options_.owner_chunks : options_.compaction_chunks;
  {
    const MutexLock lock(mu_);
    uint32_t& taken = QueueOf(kind).taken;
    while (taken >= limit && error_.ok() && !stop_) progress_.Wait(mu_);
    if (!error_.ok()) return error_;
    if (stop_) return FailedPrecondition("table '" + options_.table + "': its SSD log is closed");
    ++taken;
  }
  std::unique_ptr<Chunk> chunk;
  {
    const MutexLock lock(pool_->mu);
    if (!pool_->chunks.empty()) {
      chunk = std::move(pool_->chunks.back());
      pool_->chunks.pop_back();
    }
  }
  try {
    if (chunk == nullptr) chunk = std::make_unique<Chunk>(options_.chunk_bytes);
  } catch (const std::bad_alloc&) {
    const MutexLock lock(mu_);
    --QueueOf(kind).taken;
    return ResourceExhausted("table '" + options_.table + "': no memory for an SSD buffer of " +
                             std::to_string(options_.chunk_bytes) + " bytes");
  }
  chunk->records = 0;
  return std::shared_ptr<Chunk>(chunk.release(), [pool = pool_](Chunk* unused) {
    const MutexLock lock(pool->mu);
    pool->chunks.emplace_back(unused);
  });
}

void LogWriter::Submit(std::shared_ptr<Segment> segment, std::shared_ptr<Chunk> chunk,
                       StreamKind kind, bool seal) {
  {
    const MutexLock lock(mu_);
    Queue& queue = QueueOf(kind);
    queue.items.push_back({std::move(segment), std::move(chunk), seal});
    ++queue.submitted;
  }
  work_.NotifyOne();
}

void LogWriter::Retry() {
  {
    const MutexLock lock(mu_);
    error_ = {};
  }
  work_.NotifyOne();
}

Status LogWriter::error() const {
  const MutexLock lock(mu_);
  return error_;
}

Status LogWriter::WaitWritten() {
  const MutexLock lock(mu_);
  const uint64_t target[] = {queues_[0].submitted, queues_[1].submitted};
  for (;;) {
    if (!error_.ok()) return error_;
    if (queues_[0].finished >= target[0] && queues_[1].finished >= target[1]) return {};
    if (stop_) return FailedPrecondition("table '" + options_.table + "': its SSD log is closed");
    progress_.Wait(mu_);
  }
}

LogWriter::Queue* LogWriter::NextQueue() {
  if (queues_[turn_].items.empty()) turn_ = 1 - turn_;
  return queues_[turn_].items.empty() ? nullptr : &queues_[turn_];
}

void LogWriter::Run() {
  MutexLock lock(mu_);
  while (true) {
    Queue* queue = nullptr;
    while (!stop_ && ((queue = NextQueue()) == nullptr || !error_.ok())) work_.Wait(mu_);
    if (stop_) return;
    Item& item = queue->items.front();  // stays where it is: others only add at the end
    lock.unlock();
    const Status status = Write(&item);
    const bool sealed = status.ok() && item.seal;
    lock.lock();
    if (status.ok()) {
      if (item.chunk != nullptr) --queue->taken;
      queue->items.pop_front();
      ++queue->finished;
      turn_ = 1 - turn_;
    } else {
      error_ = status;
    }
    progress_.NotifyAll();
    if (!sealed) continue;
    lock.unlock();
    on_sealed_();
    lock.lock();
  }
}

// Whatever fails can be done again from the start.
Status LogWriter::Write(Item* item) {
  Segment& segment = *item->segment;
  if (item->chunk != nullptr && !item->chunk_done) {
    if (item->chunk->first_slot == 0) {
      EncodeHeader({.pid = static_cast<uint32_t>(::getpid()),
                    .run = directories_->run(),
                    .segment = segment.id,
                    .row_bytes = layout_.row_bytes(),
                    .metadata_bytes = layout_.metadata_bytes(),
                    .page_bytes = layout_.page_bytes(),
                    .records_per_page = layout_.records_per_page()},
                   options_.table, header_.get());
      MXREC_RETURN_IF_ERROR(WriteBlocks(segment, 0, header_.get(), kBlockBytes));
    }
    MXREC_RETURN_IF_ERROR(WriteChunk(*item));
    item->chunk_done = true;
    segments_->ChunkWritten(&segment, item->chunk->records);
  }
  if (!item->seal) return {};
  MXREC_RETURN_IF_ERROR(WriteFooter(segment));
  const uint64_t bytes = SegmentFileBytes(layout_, segment.written);
  if (bytes != segment.bytes) {
    const Status truncated = segment.file->Truncate(bytes);
    if (!truncated.ok()) {
      return {truncated.code(), "table '" + options_.table + "': SSD segment " +
                                    std::to_string(segment.id) + ": " + truncated.message()};
    }
    directories_->Shrunk(segment.path, segment.bytes, bytes);
  }
  segments_->Sealed(&segment, bytes);
  return {};
}

Status LogWriter::WriteChunk(const Item& item) {
  const Segment& segment = *item.segment;
  const Chunk& chunk = *item.chunk;
  char* const data = chunk.data.get();
  const uint32_t per_page = layout_.records_per_page();
  const uint32_t pages = (chunk.records + per_page - 1) / per_page;
  for (uint32_t i = 0; i < chunk.records; ++i) {
    const uint32_t slot = chunk.first_slot + i;
    char* const record = data + layout_.OffsetOf(i);
    const uint64_t checksum = RecordChecksum(
        layout_, {directories_->run(), segment.id, slot, segment.keys[slot]}, record);
    std::memcpy(record, &checksum, sizeof(checksum));
  }
  // The last page of a segment that is sealed early.
  for (uint32_t i = chunk.records; i < pages * per_page; ++i) {
    std::memset(data + layout_.OffsetOf(i), 0, layout_.record_bytes());
  }
  return WriteBlocks(segment, kPagesOffset + layout_.OffsetOf(chunk.first_slot), data,
                     static_cast<size_t>(pages) * layout_.page_bytes());
}

Status LogWriter::WriteFooter(const Segment& segment) {
  const uint64_t records = segment.written;
  const uint64_t offset = KeysOffset(layout_, records);
  const uint64_t bytes = SegmentFileBytes(layout_, records) - offset;
  char* const footer = footer_.get();
  std::memset(footer, 0, bytes);
  std::memcpy(footer, segment.keys.get(), records * sizeof(int64_t));
  EncodeTrailer({.run = directories_->run(),
                 .segment = segment.id,
                 .keys_offset = offset,
                 .records = records},
                footer + bytes - kBlockBytes);
  return WriteBlocks(segment, offset, footer, bytes);
}

Status LogWriter::WriteBlocks(const Segment& segment, uint64_t offset, const void* data,
                              size_t bytes) {
  const Status status = segment.file->Write(offset, data, bytes);
  if (!status.ok()) {
    return {status.code(), "table '" + options_.table + "': SSD segment " +
                               std::to_string(segment.id) + ": " + status.message()};
  }
  written_bytes_ += bytes;
  return {};
}

}  // namespace mxrec::ssd
