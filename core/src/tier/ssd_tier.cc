#include "tier/ssd_tier.h"

#include <algorithm>
#include <bit>
#include <mutex>

#include "index/key_hash.h"

namespace mxrec {
namespace {

// Rows read ahead: enough for the batches that an input pipeline prepares, or those that are needed
// next make room for later ones and are read twice. As many as memory holds where it is small, else
// a part of that.
size_t MostStaged(int64_t memory_rows) {
  const int64_t small = std::clamp<int64_t>(memory_rows, 32768, 131'072);
  return static_cast<size_t>(std::clamp<int64_t>(memory_rows / 4, small, int64_t{1} << 20));
}

ssd::LogOptions LogOptionsOf(const TableOptions& options, size_t row_bytes) {
  ssd::LogOptions log;
  log.table = options.name;
  for (const std::string& path : options.ssd_paths) log.paths.push_back({.directory = path});
  if (log.paths.empty()) log.paths.push_back({.directory = "."});
  log.row_bytes = static_cast<uint32_t>(row_bytes);
  log.metadata_bytes = kSpilledMetadataBytes;
  log.max_records = static_cast<uint64_t>(options.ssd_rows);
  return log;
}

}  // namespace

SsdTier::SsdTier(const TableOptions& options, const std::vector<SharedMutex*>& locks)
    : options_(options),
      shard_bits_(std::countr_zero(locks.size())),
      memory_rows_(options.memory_rows),
      capacity_(options.ssd_rows) {
  for (SharedMutex* lock : locks) {
    shards_.push_back(std::make_unique<TierShard>(lock, &pages_, shard_bits_));
  }
}

Result<std::unique_ptr<SsdTier>> SsdTier::Open(const TableOptions& options, size_t row_bytes,
                                               const std::vector<SharedMutex*>& locks) {
  std::unique_ptr<SsdTier> tier(new SsdTier(options, locks));
  tier->staged_ =
      std::make_unique<StagedRows>(&tier->pages_, row_bytes, MostStaged(options.memory_rows));
  auto log = tier->NewLog(row_bytes);
  if (!log.ok()) return log.status();
  tier->log_ = std::move(log).value();
  return tier;
}

SsdTier::~SsdTier() {
  log_.reset();     // it may be calling Moved
  shards_.clear();  // before the pages they lie in
}

Result<std::unique_ptr<ssd::SsdLog>> SsdTier::NewLog(size_t row_bytes) {
  Env* const env = options_.env == nullptr ? Env::Default() : options_.env;
  return ssd::SsdLog::Open(env, LogOptionsOf(options_, row_bytes), this);
}

void SsdTier::Adopt(std::unique_ptr<ssd::SsdLog> log) {
  auto staged =
      std::make_unique<StagedRows>(&pages_, log->layout().row_bytes(), staged_->most_rows());
  (void)log_->Close();  // what it could not delete, the next table's start removes
  log_ = std::move(log);
  staged_ = std::move(staged);
}

Status SsdTier::Read(const ssd::SsdLog::Guard& guard, std::span<ssd::RecordOut> records) {
  if (records.empty()) return {};
  const Status status = log_->Read(guard, records);
  if (!status.ok()) {
    read_errors_ += std::ranges::count_if(records, [](const auto& record) { return !record.ok; });
  }
  return status;
}

void SsdTier::NoteError(const Status& error) {
  const MutexLock lock(error_mu_);
  error_ = error.message();
}

void SsdTier::Moved(std::span<const ssd::Move> moves, bool* taken) {
  for (uint32_t s = 0; s < shards_.size(); ++s) {
    TierShard& shard = *shards_[s];
    std::unique_lock lock(*shard.mu, std::defer_lock);
    for (size_t i = 0; i < moves.size(); ++i) {
      const uint64_t hash = HashKey(moves[i].key);
      if (ShardOf(hash, shard_bits_) != s) continue;
      if (!lock.owns_lock()) lock.lock();
      shard.mu->AssumeHeld();  // of a shard that has none of the moves it is not taken
      SpilledRow* const row = shard.spilled.Find(hash, moves[i].key);
      taken[i] = row != nullptr && row->location == moves[i].from;
      if (taken[i]) row->location = moves[i].to;
    }
  }
}

void SsdTier::AddStats(TierStats* stats) const {
  const ssd::LogStats log = log_->stats();
  for (const auto& shard : shards_) {
    const SharedLock lock(*shard->mu);
    stats->bytes_index += shard->spilled.bytes() + shard->hand.bytes() + shard->trail.bytes();
  }
  stats->memory_capacity = memory_rows_;
  stats->ssd_capacity = capacity_;
  stats->ssd_rows = rows();
  stats->promoted = promoted;
  stats->promoted_staged = promoted_staged;
  stats->spilled = spilled;
  stats->read_in_place = read_in_place;
  stats->staged_rows = static_cast<int64_t>(staged_->size());
  stats->bytes_staged = staged_->bytes();
  stats->read_requests = static_cast<int64_t>(log.reads.requests);
  stats->bytes_read = static_cast<int64_t>(log.reads.blocks * kBlockBytes);
  stats->bytes_written = static_cast<int64_t>(log.written_bytes);
  stats->bytes_on_disk = static_cast<int64_t>(log.segments.bytes + log.segments.retired_bytes);
  stats->bytes_live = log.segments.live_records * static_cast<int64_t>(log.payload_bytes);
  stats->compacted_rows = static_cast<int64_t>(log.compaction.moved);
  stats->wait_micros = static_cast<int64_t>(log.compaction.wait_micros);
  stats->errors = read_errors_;
  stats->uses_io_uring = log.read_method == ReadMethod::kUring;
  stats->why_no_io_uring = log.why_pread;
  stats->direct_io = std::ranges::all_of(log.direct, std::identity());
  for (const uint64_t bytes : log.path_bytes) {
    stats->path_bytes.push_back(static_cast<int64_t>(bytes));
  }
  const MutexLock lock(error_mu_);
  if (const Status error = log_->TakeBackgroundError(); !error.ok()) error_ = error.message();
  stats->background_error = error_;
}

void SsdTier::InheritCounters(const TierStats& previous) {
  promoted += previous.promoted;
  promoted_staged += previous.promoted_staged;
  spilled += previous.spilled;
  read_in_place += previous.read_in_place;
  read_errors_ += previous.errors;
}

}  // namespace mxrec
