// Tables with an SSD tier, for tests that run with all rows in memory as well.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "mxrec/options.h"

namespace mxrec::testing {

// A directory for the SSD tiers of this process, removed at its end.
inline const std::string& SsdDirectory() {
  class Directory {
   public:
    Directory()
        : path_((std::filesystem::temp_directory_path() /
                 ("mxrec-tiers-" + std::to_string(::getpid())))
                    .string()) {
      std::filesystem::create_directories(path_);
    }
    ~Directory() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }

   private:
    const std::string path_;
  };
  static const Directory directory;
  return directory.path();
}

inline std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> keys(static_cast<size_t>(end - begin));
  std::iota(keys.begin(), keys.end(), begin);
  return keys;
}

// Of random histories: so many, or as MXREC_TEST_HISTORIES says.
inline uint64_t Histories(uint64_t usual) {
  const char* text = std::getenv("MXREC_TEST_HISTORIES");
  return text == nullptr ? usual : std::strtoull(text, nullptr, 10);
}

// The same capacity, of which so many rows may be in memory.
inline TableOptions Tiered(TableOptions options, int64_t memory_rows) {
  const int64_t capacity = options.memory_rows > 0 ? options.memory_rows : 1'000'000;
  options.memory_rows = std::min(memory_rows, capacity - 1);
  options.ssd_rows = capacity - options.memory_rows;
  options.ssd_paths = {SsdDirectory()};
  return options;
}

// With MXREC_TEST_MEMORY_ROWS: so many rows in memory, the others on SSD.
inline TableOptions TieredIfAsked(const TableOptions& options) {
  const char* const memory_rows = std::getenv("MXREC_TEST_MEMORY_ROWS");
  if (memory_rows == nullptr || options.memory_rows == 1) return options;
  return Tiered(options, std::strtoll(memory_rows, nullptr, 10));
}

// As a model without tiers sees them.
inline TableOptions Untiered(TableOptions options) {
  if (options.ssd_rows == 0) return options;
  options.memory_rows += options.ssd_rows;
  options.ssd_rows = 0;
  options.ssd_paths.clear();
  return options;
}

}  // namespace mxrec::testing
