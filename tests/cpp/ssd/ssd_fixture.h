// ModelOwner: an index from key to location as a log's owner has one, with what each record must
// hold. Rows are made from (key, version), so that a reader can tell a wrong one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "env/temp_dir.h"
#include "ssd/ssd_log.h"

namespace mxrec::ssd::testing {

using ::mxrec::testing::TempDir;

inline void FillBytes(int64_t key, uint64_t version, uint32_t salt, void* out, size_t bytes) {
  uint64_t state =
      static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15u + version * 0xD1B54A32D192ED03u + salt;
  auto* to = static_cast<unsigned char*>(out);
  for (size_t i = 0; i < bytes; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    to[i] = static_cast<unsigned char>(state >> 56);
  }
}

class ModelOwner : public LogOwner {
 public:
  struct Entry {
    uint32_t location = 0;
    uint64_t version = 0;
  };

  void Moved(std::span<const Move> moves, bool* taken) override {
    std::lock_guard lock(mu);
    for (size_t i = 0; i < moves.size(); ++i) {
      const auto entry = index.find(moves[i].key);
      taken[i] = entry != index.end() && entry->second.location == moves[i].from;
      if (taken[i]) entry->second.location = moves[i].to;
    }
  }

  // Stores new versions of the keys; nothing changes after an error.
  Status Put(SsdLog* log, const std::vector<int64_t>& keys) {
    const uint32_t row = log->layout().row_bytes();
    const uint32_t metadata = log->layout().metadata_bytes();
    std::vector<char> bytes(keys.size() * (row + metadata));
    std::vector<RecordIn> records;
    uint64_t first_version;
    {
      std::lock_guard lock(mu);
      first_version = next_version;
      next_version += keys.size();
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      char* const at = bytes.data() + i * (row + metadata);
      const uint64_t version = first_version + i;
      FillBytes(keys[i], version, 1, at, metadata);
      FillBytes(keys[i], version, 2, at + metadata, row);
      records.push_back({.key = keys[i],
                         .frequency = static_cast<uint32_t>(version * 3),
                         .last_time = static_cast<uint32_t>(version * 7),
                         .metadata = at,
                         .row = at + metadata});
    }
    std::vector<uint32_t> locations(keys.size());
    const SsdLog::Guard guard = log->Enter();
    const Status status = log->Append(guard, records, locations.data());
    if (!status.ok()) return status;
    std::lock_guard lock(mu);
    std::vector<uint32_t> freed;
    for (size_t i = 0; i < keys.size(); ++i) {
      EXPECT_LT(locations[i], kLocationLimit);
      const auto [entry, fresh] = index.try_emplace(keys[i]);
      if (!fresh) freed.push_back(entry->second.location);
      entry->second = {locations[i], first_version + i};
    }
    log->Free(freed);
    return status;
  }

  void Erase(SsdLog* log, const std::vector<int64_t>& keys) {
    std::lock_guard lock(mu);
    std::vector<uint32_t> freed;
    for (const int64_t key : keys) {
      const auto entry = index.find(key);
      if (entry == index.end()) continue;
      freed.push_back(entry->second.location);
      index.erase(entry);
    }
    log->Free(freed);
  }

  // Reads those of the keys that there are, and compares what was read. How many are right.
  Status Get(SsdLog* log, const std::vector<int64_t>& keys, size_t* right = nullptr) {
    const uint32_t row = log->layout().row_bytes();
    const uint32_t metadata = log->layout().metadata_bytes();
    const SsdLog::Guard guard = log->Enter();
    std::vector<RecordOut> reads;
    std::vector<uint64_t> versions;
    {
      std::lock_guard lock(mu);
      for (const int64_t key : keys) {
        const auto entry = index.find(key);
        if (entry == index.end()) continue;
        reads.push_back({.key = key, .location = entry->second.location});
        versions.push_back(entry->second.version);
      }
    }
    std::vector<char> bytes(reads.size() * (row + metadata), 0x5A);
    for (size_t i = 0; i < reads.size(); ++i) {
      reads[i].metadata = bytes.data() + i * (row + metadata);
      reads[i].row = bytes.data() + i * (row + metadata) + metadata;
    }
    const Status status = log->Read(guard, reads);
    std::vector<char> expected(row + metadata);
    size_t count = 0;
    for (size_t i = 0; i < reads.size(); ++i) {
      if (!reads[i].ok) {
        EXPECT_FALSE(status.ok()) << "a record that was not read needs an error";
        continue;
      }
      ++count;
      FillBytes(reads[i].key, versions[i], 1, expected.data(), metadata);
      FillBytes(reads[i].key, versions[i], 2, expected.data() + metadata, row);
      EXPECT_EQ(std::memcmp(expected.data(), bytes.data() + i * (row + metadata), row + metadata),
                0)
          << "key " << reads[i].key << " at " << reads[i].location;
      EXPECT_EQ(reads[i].frequency, static_cast<uint32_t>(versions[i] * 3));
      EXPECT_EQ(reads[i].last_time, static_cast<uint32_t>(versions[i] * 7));
    }
    if (right != nullptr) *right = count;
    return status;
  }

  std::vector<int64_t> Keys() {
    std::lock_guard lock(mu);
    std::vector<int64_t> keys;
    for (const auto& [key, entry] : index) keys.push_back(key);
    return keys;
  }

  std::mutex mu;
  std::map<int64_t, Entry> index;  // guarded by mu, as is next_version
  uint64_t next_version = 1;
};

inline LogOptions SmallLog(const std::string& directory) {
  LogOptions options;
  options.table = "ads";
  options.paths = {{directory, 0}};
  options.row_bytes = 60;
  options.max_records = 100000;
  options.segment_bytes = 32 << 10;
  options.chunk_bytes = 8 << 10;
  options.buffer_bytes = 64 << 10;
  return options;
}

inline std::unique_ptr<SsdLog> MustOpen(Env* env, const LogOptions& options, LogOwner* owner) {
  auto log = SsdLog::Open(env, options, owner);
  EXPECT_TRUE(log.ok()) << log.status().message();
  return log.ok() ? std::move(log).value() : nullptr;
}

inline std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> keys;
  for (int64_t key = begin; key < end; ++key) keys.push_back(key);
  return keys;
}

// All segment files below a directory, sorted.
inline std::vector<std::string> SegmentFiles(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace mxrec::ssd::testing
