// What ssd_log_bench compares: rows on a disk, found by key. Rows are named by ranks in [0, rows).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace mxrec::bench {

struct StoreOptions {
  std::string directory;  // empty, the store's own
  int64_t rows = 0;
  uint32_t row_bytes = 0;
  int64_t segment_bytes = 0;  // of the log; 0: its own choice
  bool uring = true;
  int64_t cache_bytes = 0;  // of RocksDB
};

// Calls come from several threads at the same time; an error ends the program.
class Store {
 public:
  virtual ~Store() = default;
  virtual void Read(std::span<const int64_t> ranks, char* rows) = 0;
  virtual void Write(std::span<const int64_t> ranks, const char* rows) = 0;
  // Everything written is on the disk.
  virtual void Flush() = 0;
  // Returns when no background work of earlier calls is left: the disk is another one's then.
  virtual void Settle() = 0;
  // To the disk, since creation.
  virtual uint64_t WrittenBytes() const = 0;
  virtual uint64_t SpaceBytes() const = 0;
  // Of one row, with key and metadata.
  virtual uint64_t PayloadBytes() const = 0;
  virtual nlohmann::json Describe() const = 0;
};

std::unique_ptr<Store> NewLogStore(const StoreOptions& options);
std::unique_ptr<Store> NewRocksStore(const StoreOptions& options);

// 4 KiB reads/s of the disk itself: uniform over a file with direct I/O, `depth` under way.
class DiskProbe {
 public:
  DiskProbe(const std::string& path, int64_t bytes);  // writes the file
  ~DiskProbe();                                       // deletes it
  double ReadsPerSecond(int64_t reads, uint32_t depth);

 private:
  std::string path_;
  int64_t blocks_ = 0;
  int fd_ = -1;
  uint64_t seed_ = 1;
};

[[noreturn]] void Fail(const std::string& message);

}  // namespace mxrec::bench
