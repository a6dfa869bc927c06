#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "../workload.h"
#include "store.h"

namespace mxrec::bench {
namespace {

class RocksStore : public Store {
  // What the log keeps beside a row: its count, time and metadata.
  static constexpr size_t kHeadBytes = 16;

 public:
  explicit RocksStore(const StoreOptions& options) : options_(options) {
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.cache_bytes));
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
    rocksdb::Options db;
    db.create_if_missing = true;
    db.IncreaseParallelism(static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
    db.compression = rocksdb::kNoCompression;
    db.use_direct_reads = true;
    db.use_direct_io_for_flush_and_compaction = true;
    db.statistics = rocksdb::CreateDBStatistics();
    db.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocksdb::DB* opened = nullptr;
    Check(rocksdb::DB::Open(db, options.directory, &opened));
    db_.reset(opened);
    statistics_ = db.statistics;
  }
  ~RocksStore() override { Check(db_->Close()); }

  void Read(std::span<const int64_t> ranks, char* rows) override {
    std::vector<int64_t> keys(ranks.size());
    std::vector<rocksdb::Slice> slices(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      keys[i] = KeyOfRank(ranks[i]);
      slices[i] = rocksdb::Slice(reinterpret_cast<const char*>(&keys[i]), sizeof(int64_t));
    }
    std::vector<rocksdb::PinnableSlice> values(ranks.size());
    std::vector<rocksdb::Status> statuses(ranks.size());
    rocksdb::ReadOptions read;
    read.async_io = true;
    db_->MultiGet(read, db_->DefaultColumnFamily(), ranks.size(), slices.data(), values.data(),
                  statuses.data());
    for (size_t i = 0; i < ranks.size(); ++i) {
      Check(statuses[i]);
      std::memcpy(rows + i * options_.row_bytes, values[i].data() + kHeadBytes, options_.row_bytes);
    }
  }

  void Write(std::span<const int64_t> ranks, const char* rows) override {
    rocksdb::WriteBatch batch;
    std::vector<char> value(kHeadBytes + options_.row_bytes);
    for (size_t i = 0; i < ranks.size(); ++i) {
      const int64_t key = KeyOfRank(ranks[i]);
      std::memcpy(value.data() + kHeadBytes, rows + i * options_.row_bytes, options_.row_bytes);
      Check(batch.Put(rocksdb::Slice(reinterpret_cast<const char*>(&key), sizeof(key)),
                      rocksdb::Slice(value.data(), value.size())));
    }
    rocksdb::WriteOptions write;
    write.disableWAL = true;
    Check(db_->Write(write, &batch));
  }

  void Flush() override { Check(db_->Flush(rocksdb::FlushOptions())); }
  void Settle() override {
    using Properties = rocksdb::DB::Properties;
    const auto busy = [this] {
      for (const auto& name :
           {Properties::kMemTableFlushPending, Properties::kNumRunningFlushes,
            Properties::kCompactionPending, Properties::kNumRunningCompactions}) {
        uint64_t count = 0;
        if (!db_->GetIntProperty(name, &count)) Fail("RocksDB does not know " + name);
        if (count > 0) return true;
      }
      return false;
    };
    while (busy()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  uint64_t WrittenBytes() const override {
    return statistics_->getTickerCount(rocksdb::FLUSH_WRITE_BYTES) +
           statistics_->getTickerCount(rocksdb::COMPACT_WRITE_BYTES);
  }
  uint64_t SpaceBytes() const override {
    uint64_t bytes = 0;
    if (!db_->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &bytes)) {
      Fail("RocksDB does not say how large its files are");
    }
    return bytes;
  }
  uint64_t PayloadBytes() const override {
    return sizeof(int64_t) + kHeadBytes + options_.row_bytes;
  }
  nlohmann::json Describe() const override {
    return {{"version", rocksdb::GetRocksVersionAsString()}};
  }

 private:
  static void Check(const rocksdb::Status& status) {
    if (!status.ok()) Fail("RocksDB: " + status.ToString());
  }

  const StoreOptions options_;
  std::unique_ptr<rocksdb::DB> db_;
  std::shared_ptr<rocksdb::Statistics> statistics_;
};

}  // namespace

std::unique_ptr<Store> NewRocksStore(const StoreOptions& options) {
  return std::make_unique<RocksStore>(options);
}

}  // namespace mxrec::bench
