#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "../workload.h"
#include "ssd/ssd_log.h"
#include "store.h"

namespace mxrec::bench {
namespace {

constexpr uint32_t kNowhere = ssd::kLocationLimit;

// The index is an array: what it costs to find a key among others is not measured here.
class LogStore : public Store, public ssd::LogOwner {
 public:
  explicit LogStore(const StoreOptions& options)
      : options_(options), index_(static_cast<size_t>(options.rows)) {
    for (auto& location : index_) location = kNowhere;
    ssd::LogOptions log;
    log.table = "bench";
    log.paths = {{options.directory, 0}};
    log.row_bytes = options.row_bytes;
    log.max_records = static_cast<uint64_t>(options.rows);
    log.segment_bytes = static_cast<uint64_t>(options.segment_bytes);
    log.prefer_uring = options.uring;
    auto opened = ssd::SsdLog::Open(Env::Default(), std::move(log), this);
    if (!opened.ok()) Fail(opened.status().message());
    log_ = std::move(opened).value();
  }
  ~LogStore() override { log_.reset(); }

  void Moved(std::span<const ssd::Move> moves, bool* taken) override {
    for (size_t i = 0; i < moves.size(); ++i) {
      uint32_t from = moves[i].from;
      taken[i] = index_[RankOf(moves[i].key)].compare_exchange_strong(from, moves[i].to);
    }
  }

  void Read(std::span<const int64_t> ranks, char* rows) override {
    const ssd::SsdLog::Guard guard = log_->Enter();
    std::vector<ssd::RecordOut> reads(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      reads[i].key = KeyOf(ranks[i]);
      reads[i].location = index_[static_cast<size_t>(ranks[i])];
      reads[i].row = rows + i * options_.row_bytes;
    }
    Check(log_->Read(guard, reads));
  }

  void Write(std::span<const int64_t> ranks, const char* rows) override {
    Check(log_->Pace(ranks.size()));
    const ssd::SsdLog::Guard guard = log_->Enter();
    const uint64_t metadata = 0;
    std::vector<ssd::RecordIn> records(ranks.size());
    std::vector<uint32_t> locations(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      records[i] = {.key = KeyOf(ranks[i]),
                    .frequency = 1,
                    .last_time = 1,
                    .metadata = &metadata,
                    .row = rows + i * options_.row_bytes};
    }
    Check(log_->Append(guard, records, locations.data()));
    std::vector<uint32_t> freed;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const uint32_t old = index_[static_cast<size_t>(ranks[i])].exchange(locations[i]);
      if (old != kNowhere) freed.push_back(old);
    }
    log_->Free(freed);
    Check(log_->TakeBackgroundError());
  }

  void Flush() override { Check(log_->Seal()); }
  // Compaction that is at work has written something after a while.
  void Settle() override {
    for (uint64_t written = ~uint64_t{0}; written != WrittenBytes();) {
      written = WrittenBytes();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
  uint64_t WrittenBytes() const override { return log_->stats().written_bytes; }
  uint64_t SpaceBytes() const override { return log_->stats().path_bytes[0]; }
  uint64_t PayloadBytes() const override { return log_->layout().payload_bytes(); }

  nlohmann::json Describe() const override {
    const ssd::LogStats stats = log_->stats();
    return {
        {"reader", stats.read_method == ReadMethod::kUring ? "io_uring" : "pread"},
        {"direct", static_cast<bool>(stats.direct[0])},
        {"segment bytes", stats.segment_bytes},
        {"segments", stats.segments.segments},
        {"rows per block read",
         stats.reads.blocks == 0
             ? 0.0
             : static_cast<double>(stats.reads.records) / static_cast<double>(stats.reads.blocks)},
        {"compacted segments", stats.compaction.segments},
        {"moved records", stats.compaction.moved},
        {"moves refused", stats.compaction.refused},
        {"seconds waited for compaction", static_cast<double>(stats.compaction.wait_micros) / 1e6},
    };
  }

 private:
  static int64_t KeyOf(int64_t rank) { return rank * 2 + 1; }
  static size_t RankOf(int64_t key) { return static_cast<size_t>(key / 2); }
  static void Check(const Status& status) {
    if (!status.ok()) Fail(status.message());
  }

  const StoreOptions options_;
  std::vector<std::atomic<uint32_t>> index_;
  std::unique_ptr<ssd::SsdLog> log_;
};

}  // namespace

std::unique_ptr<Store> NewLogStore(const StoreOptions& options) {
  return std::make_unique<LogStore>(options);
}

}  // namespace mxrec::bench
