// All that a checkpoint has to keep of a table, in maps that can be compared.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "mxrec/table.h"

namespace mxrec::testing {

struct Contents {
  struct Row {
    std::vector<float> values;
    uint32_t frequency;
    uint32_t last_time;
    bool operator==(const Row&) const = default;
  };
  struct Count {
    uint32_t count;
    uint32_t last_time;
    std::vector<float> bytes;  // of a block of a sketch
    bool operator==(const Count&) const = default;
  };
  std::map<int64_t, Row> rows;
  std::map<int64_t, Count> counts;
  bool operator==(const Contents&) const = default;

  // Puts rows in; returns those that were there already.
  int AddRows(const RowBlock& block) {
    int twice = 0;
    const size_t n = block.size();
    const size_t floats = n == 0 ? 0 : block.values.size() / n;
    for (size_t i = 0; i < n; ++i) {
      const float* row = block.values.data() + i * floats;
      const Row value{{row, row + floats}, block.frequency[i], block.last_time[i]};
      twice += !rows.emplace(block.keys[i], value).second;
    }
    return twice;
  }
  int AddCounts(const RowBlock& block) {
    int twice = 0;
    const size_t n = block.size();
    const size_t floats = n == 0 ? 0 : block.values.size() / n;
    for (size_t i = 0; i < n; ++i) {
      const float* row = block.values.data() + i * floats;
      const Count value{block.frequency[i], block.last_time[i], {row, row + floats}};
      twice += !counts.emplace(block.keys[i], value).second;
    }
    return twice;
  }
  // A delta on top.
  void Apply(const std::vector<int64_t>& gone, const Contents& delta, bool sketch) {
    for (const int64_t key : gone) {
      rows.erase(key);
      if (!sketch) counts.erase(key);
    }
    for (const auto& [key, row] : delta.rows) {
      rows[key] = row;
      if (!sketch) counts.erase(key);
    }
    for (const auto& [key, count] : delta.counts) counts[key] = count;
    // A sketch does not write empty blocks in full.
    if (sketch) {
      std::erase_if(counts, [](const auto& entry) {
        for (const float word : entry.second.bytes) {
          uint32_t bits;
          std::memcpy(&bits, &word, sizeof(bits));
          if (bits != 0) return false;
        }
        return true;
      });
    }
  }
};

inline Contents ContentsOf(const Table& table) {
  Contents contents;
  const auto lock = table.LockForRead();
  EXPECT_TRUE(lock.ok()) << lock.status().message();
  RowBlock block;
  for (ScanCursor cursor;;) {
    EXPECT_TRUE(table.Scan(&cursor, 1 << 20, &block, &lock.value()).ok());
    if (block.size() == 0) break;
    EXPECT_EQ(contents.AddRows(block), 0);
  }
  for (ScanCursor cursor;;) {
    EXPECT_TRUE(table.ScanCounts(&cursor, 1 << 20, &block, lock.value()).ok());
    if (block.size() == 0) break;
    EXPECT_EQ(contents.AddCounts(block), 0);
  }
  return contents;
}

}  // namespace mxrec::testing
