#include "ssd/ssd_log.h"

#include <algorithm>
#include <new>
#include <utility>

namespace mxrec::ssd {
namespace {

constexpr uint64_t kMaxRecords = 1'300'000'000;  // x 1.5 and the open segments stay below 2^31
constexpr uint64_t kSegmentsOfAFullLog = 512;
constexpr double kSpaceRatio = 1.5;  // of a log to its live records, for the size of segments
constexpr uint64_t kMostSegmentRecords = kLocationLimit / 8;  // that compaction has segments to use
constexpr uint32_t kCompactionChunks = 4;
// Of all bytes to those handed over for live records. Uniform updates cost 1.9 times what is handed
// over at the lower one; the bound is 1.5.
constexpr double kStartRatio = 1.47;
constexpr double kWaitRatio = 1.485;
// Small rows: at 1.335 times what the disk needs for full segments an update costs 2.2 writes.
constexpr double kStartOverDisk = 1.335;

// What runs out of memory has changed nothing.
template <typename Call>
Status WithoutBadAlloc(const std::string& table, const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("table '" + table + "': no memory for a batch of its SSD log");
  }
}

Status CheckOptions(const LogOptions& options) {
  const auto bad = [&](const std::string& what) {
    return InvalidArgument("SSD log of table '" + options.table + "': " + what);
  };
  if (options.paths.empty()) return bad("no path is given; name at least one directory");
  if (options.row_bytes < 1 || options.row_bytes > kMaxRowBytes) {
    return bad("a row of " + std::to_string(options.row_bytes) + " bytes is outside [1, " +
               std::to_string(kMaxRowBytes) + "]");
  }
  if (options.metadata_bytes > kMaxMetadataBytes) {
    return bad("metadata of " + std::to_string(options.metadata_bytes) + " bytes is outside [0, " +
               std::to_string(kMaxMetadataBytes) + "]");
  }
  if (options.max_records < 1 || options.max_records > kMaxRecords) {
    return bad(std::to_string(options.max_records) + " records are outside [1, " +
               std::to_string(kMaxRecords) + "]: locations have 31 bits");
  }
  if (options.patrol_millis < 1 || options.patrol_millis > 0x7FFFFFFF) {
    return bad("a patrol each " + std::to_string(options.patrol_millis) +
               " milliseconds is outside [1, 2^31)");
  }
  if (options.read_depth < 1 || options.read_depth > 4096) {
    return bad("a read depth of " + std::to_string(options.read_depth) + " is outside [1, 4096]");
  }
  return {};
}

}  // namespace

SsdLog::SsdLog(LogOptions options, const RecordLayout& layout)
    : options_(std::move(options)), layout_(layout) {}

Result<std::unique_ptr<SsdLog>> SsdLog::Open(Env* env, LogOptions options, LogOwner* owner) {
  MXREC_RETURN_IF_ERROR(CheckOptions(options));
  const RecordLayout layout(options.row_bytes, options.metadata_bytes);
  auto self = std::unique_ptr<SsdLog>(new SsdLog(std::move(options), layout));
  const LogOptions& o = self->options_;

  // A segment is a whole number of chunks, a chunk of pages.
  const double per_record = static_cast<double>(layout.page_bytes()) / layout.records_per_page() +
                            static_cast<double>(sizeof(int64_t));
  const auto full =
      static_cast<uint64_t>(static_cast<double>(o.max_records) * per_record * kSpaceRatio);
  const uint64_t wanted = o.segment_bytes > 0
                              ? o.segment_bytes
                              : std::max<uint64_t>(full / kSegmentsOfAFullLog, 1 << 20);
  const uint64_t chunk_pages =
      std::max<uint64_t>(std::min(o.chunk_bytes, wanted) / layout.page_bytes(), 1);
  const uint64_t chunk_bytes = chunk_pages * layout.page_bytes();
  const auto chunk_records = static_cast<uint32_t>(chunk_pages * layout.records_per_page());
  const uint64_t chunks = std::max<uint64_t>((wanted + chunk_bytes / 2) / chunk_bytes, 1);
  if (chunks > kMostSegmentRecords / chunk_records) {
    return InvalidArgument("SSD log of table '" + o.table + "': a segment of " +
                           std::to_string(wanted) + " bytes holds more than " +
                           std::to_string(kMostSegmentRecords) +
                           " records; make segment_bytes smaller");
  }
  self->segment_records_ = static_cast<uint32_t>(chunks * chunk_records);
  self->segment_bytes_ = SegmentFileBytes(layout, self->segment_records_);
  const double record_bytes = static_cast<double>(self->segment_bytes_) / self->segment_records_;

  auto directories = RunDirectories::Open(env, o.table, o.paths);
  if (!directories.ok()) return directories.status();
  self->directories_ = std::move(directories).value();
  self->segments_ = std::make_unique<SegmentSet>(self->segment_records_, self->segment_bytes_,
                                                 record_bytes, layout.payload_bytes());
  RecordReader::Options reading;
  reading.table = o.table;
  reading.depth = o.read_depth;
  reading.prefer_uring = o.prefer_uring;
  auto reader = RecordReader::Create(env, std::move(reading), layout, self->directories_->run(),
                                     self->segments_.get());
  if (!reader.ok()) return reader.status();
  self->reader_ = std::move(reader).value();
  LogWriter::Options writing;
  writing.table = o.table;
  writing.chunk_bytes = chunk_bytes;
  writing.owner_chunks = static_cast<uint32_t>(std::max<uint64_t>(o.buffer_bytes / chunk_bytes, 2));
  writing.compaction_chunks = kCompactionChunks;
  SsdLog* const log = self.get();
  self->writer_ =
      std::make_unique<LogWriter>(std::move(writing), layout, self->directories_.get(),
                                  self->segments_.get(), [log] { log->compactor_->Wake(); });
  self->compaction_stream_ = std::make_unique<AppendStream>(
      o.table, StreamKind::kCompaction, layout, chunk_records, self->segment_bytes_,
      self->directories_.get(), self->segments_.get(), self->writer_.get(), nullptr);
  self->owner_stream_ = std::make_unique<AppendStream>(
      o.table, StreamKind::kOwner, layout, chunk_records, self->segment_bytes_,
      self->directories_.get(), self->segments_.get(), self->writer_.get(),
      self->compaction_stream_.get());
  const double start =
      std::max(kStartRatio, kStartOverDisk * record_bytes / layout.payload_bytes());
  self->compactor_ =
      std::make_unique<Compactor>(Compactor::Options{.table = o.table,
                                                     .start_ratio = start,
                                                     .wait_ratio = start * kWaitRatio / kStartRatio,
                                                     .piece_records = chunk_records,
                                                     .patrol_millis = o.patrol_millis},
                                  layout, owner, self->directories_.get(), self->segments_.get(),
                                  self->reader_.get(), self->compaction_stream_.get());
  return self;
}

SsdLog::~SsdLog() { (void)Close(); }

Status SsdLog::Close() {
  if (directories_ == nullptr) return {};
  // Compaction may wait for the writer's buffers, and the writer reports to compaction.
  if (writer_ != nullptr) writer_->Stop();
  compactor_.reset();
  owner_stream_.reset();
  compaction_stream_.reset();
  writer_.reset();
  reader_.reset();
  segments_.reset();
  const Status closed = directories_->Close();
  directories_.reset();
  return closed;
}

Status SsdLog::CheckOpen() const {
  if (directories_ != nullptr) return {};
  return FailedPrecondition("table '" + options_.table + "': its SSD log is closed");
}

SsdLog::Guard::~Guard() {
  if (log_ == nullptr || log_->directories_ == nullptr) return;
  log_->segments_->Leave(epoch_);
  if (log_->segments_->HasRetired()) {
    log_->compactor_->Wake();
  } else {
    log_->compactor_->WakeIfNeeded();
  }
}

SsdLog::Guard SsdLog::Enter() {
  if (directories_ == nullptr) return {nullptr, 0};
  return {this, segments_->Enter()};
}

Status SsdLog::Pace(size_t records) {
  MXREC_RETURN_IF_ERROR(CheckOpen());
  compactor_->WaitForSpace();
  while (true) {
    const Status status =
        WithoutBadAlloc(options_.table, [&] { return owner_stream_->Reserve(records, 0); });
    if (status.code() != StatusCode::kResourceExhausted) return status;
    if (!compactor_->Reclaim()) return status;
  }
}

Status SsdLog::Append(const Guard&, std::span<const RecordIn> records, uint32_t* locations) {
  MXREC_RETURN_IF_ERROR(CheckOpen());
  return WithoutBadAlloc(options_.table, [&] { return owner_stream_->Append(records, locations); });
}

Status SsdLog::Read(const Guard&, std::span<RecordOut> records) {
  MXREC_RETURN_IF_ERROR(CheckOpen());
  return WithoutBadAlloc(options_.table, [&] { return reader_->Read(records); });
}

void SsdLog::Free(std::span<const uint32_t> locations) {
  if (directories_ == nullptr) return;
  if (segments_->MarkDead(locations)) {
    compactor_->Wake();
  } else {
    compactor_->WakeIfNeeded();
  }
}

Status SsdLog::Seal() {
  MXREC_RETURN_IF_ERROR(CheckOpen());
  if (!writer_->error().ok()) writer_->Retry();
  owner_stream_->Seal();
  compaction_stream_->Seal();
  return writer_->WaitWritten();
}

void SsdLog::Compact() {
  if (directories_ != nullptr) compactor_->CompactAll();
}

Status SsdLog::TakeBackgroundError() {
  return directories_ == nullptr ? Status() : compactor_->TakeError();
}

SsdLog::Pins SsdLog::Pin() {
  Pins pins;
  pins.log_ = this;
  if (directories_ == nullptr) return pins;
  pins.segments_ = segments_->PinSealed();
  for (const auto& segment : pins.segments_) {
    std::vector<uint64_t> live((segment->written + 63) / 64);
    for (size_t i = 0; i < live.size(); ++i) live[i] = segment->live_bits[i];
    pins.pinned_.push_back({.run = directories_->run(),
                            .segment = segment->id,
                            .file = segment->name,
                            .bytes = segment->bytes,
                            .first_location = segments_->LocationOf(*segment, 0),
                            .records = segment->written,
                            .live = std::move(live),
                            .unreadable = segment->unreadable});
  }
  return pins;
}

SsdLog::Pins::~Pins() {
  if (segments_.empty() || log_->directories_ == nullptr) return;  // none, moved from, or closed
  log_->segments_->Unpin(segments_);
  if (log_->segments_->HasRetired()) log_->compactor_->Wake();
}

Status SsdLog::Pins::Sync(size_t i) const {
  MXREC_RETURN_IF_ERROR(log_->CheckOpen());
  const Pinned& pinned = pinned_[i];
  Status synced = segments_[i]->file->Sync();
  if (synced.ok()) synced = log_->directories_->StillThere(pinned.file);
  if (synced.ok()) {
    const auto size = segments_[i]->file->Size();
    if (!size.ok()) {
      synced = size.status();
    } else if (size.value() != pinned.bytes) {
      synced = DataLoss(pinned.file + " has " + std::to_string(size.value()) +
                        " bytes, but was written with " + std::to_string(pinned.bytes) +
                        "; restore the table from its last checkpoint");
    }
  }
  if (synced.ok()) return {};
  return {synced.code(), "table '" + log_->options_.table + "': SSD segment " +
                             std::to_string(pinned.segment) + ": " + synced.message()};
}

LogStats SsdLog::stats() const {
  LogStats stats;
  if (directories_ == nullptr) return stats;
  stats.segments = segments_->totals();
  stats.segment_records = segment_records_;
  stats.segment_bytes = segment_bytes_;
  stats.payload_bytes = layout_.payload_bytes();
  stats.appended_records = owner_stream_->appended();
  stats.written_bytes = writer_->written_bytes();
  stats.reads = reader_->counts();
  stats.compaction = compactor_->counts();
  stats.read_method = reader_->method();
  stats.why_pread = reader_->why_pread();
  for (uint32_t i = 0; i < directories_->paths().size(); ++i) {
    stats.direct.push_back(directories_->direct(i));
    stats.path_bytes.push_back(directories_->held_bytes(i));
  }
  stats.removed_leftovers = directories_->removed();
  stats.kept_leftovers = directories_->kept();
  return stats;
}

}  // namespace mxrec::ssd
