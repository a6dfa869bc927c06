// What the checkpoint tests share: tables with content, their rows as a map, files as strings.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "env/env.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/tiers.h"

namespace mxrec::testing {

// MXREC_TEST_SEED replays a run; else a new seed, printed.
inline uint64_t TestSeed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MXREC_TEST_SEED");
    const uint64_t value =
        text != nullptr ? std::strtoull(text, nullptr, 0) : std::random_device{}();
    std::cout << "replay with MXREC_TEST_SEED=" << value << std::endl;
    return value;
  }();
  return seed;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::vector<std::string> Files(const std::string& dir) {
  return Env::Default()->List(dir).value();
}

inline TableOptions Options(OptimizerKind kind, int num_shards = 4, int dim = 3) {
  TableOptions options;
  options.name = "users";
  options.dim = dim;
  options.seed = 0xfedcba9876543210ull;
  options.num_shards = num_shards;
  options.optimizer.kind = kind;
  options.optimizer.learning_rate = 0.1f;
  if (kind == OptimizerKind::kMomentum) options.optimizer.momentum = 0.9f;
  options.initializer.kind = InitializerKind::kUniform;
  return options;
}

inline std::shared_ptr<Table> MakeTable(const TableOptions& options) {
  auto table = Table::Create(TieredIfAsked(options));
  if (!table.ok()) {
    ADD_FAILURE() << table.status().message();
    std::abort();
  }
  return std::move(table).value();
}

// Inserts `n` keys, extreme ones among them, and takes three steps on parts of them.
inline void Train(Table* table, int n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> keys = {0, -1, INT64_MIN, INT64_MAX};
  while (static_cast<int>(keys.size()) < n) keys.push_back(static_cast<int64_t>(random()));
  keys.resize(static_cast<size_t>(n));
  std::vector<float> out(keys.size() * table->dim());
  Status status = table->LookupOrInsert(keys, out.data());
  ASSERT_TRUE(status.ok()) << status.message();
  if (table->options().optimizer.kind == OptimizerKind::kNone) return;
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (int step = 0; step < 3; ++step) {
    std::vector<int64_t> batch;
    for (const int64_t key : keys) {
      if (random() % 2 == 0) batch.push_back(key);
    }
    std::vector<float> grads(batch.size() * table->dim());
    for (float& g : grads) g = uniform(random);
    ApplyResult result;
    status = table->ApplyGradients(batch, grads.data(), std::nullopt, &result);
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

// Frequency, last_time and the bits of all floats, by key.
using Contents = std::map<int64_t, std::tuple<uint32_t, uint32_t, std::vector<uint32_t>>>;

inline Contents ContentsOf(const Table& table) {
  Contents contents;
  const size_t width = static_cast<size_t>(table.row_floats());
  ScanCursor cursor;
  RowBlock block;
  do {
    const Status status = table.Scan(&cursor, 1000, &block);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
    for (size_t i = 0; i < block.size(); ++i) {
      std::vector<uint32_t> bits(width);
      std::memcpy(bits.data(), block.values.data() + i * width, width * sizeof(float));
      EXPECT_TRUE(
          contents
              .emplace(block.keys[i], std::make_tuple(block.frequency[i], block.last_time[i], bits))
              .second)
          << "key " << block.keys[i] << " twice";
    }
  } while (block.size() > 0);
  return contents;
}

// For tables trained one after the other: the wall clock may have ticked in between.
inline Contents WithoutTimes(Contents contents) {
  for (auto& [key, row] : contents) std::get<1>(row) = 0;
  return contents;
}

// The table and what it must still be after a failed call.
class Unchanged {
 public:
  explicit Unchanged(const Table& table)
      : table_(table),
        contents_(ContentsOf(table)),
        step_(table.optimizer_step()),
        version_(table.version()) {}

  // Cheap: the version changes with every change of the rows.
  void Check() const {
    EXPECT_EQ(table_.version(), version_);
    EXPECT_EQ(table_.optimizer_step(), step_);
    EXPECT_EQ(table_.size(), static_cast<int64_t>(contents_.size()));
  }
  void CheckRows() const {
    Check();
    EXPECT_EQ(ContentsOf(table_), contents_);
  }

 private:
  const Table& table_;
  const Contents contents_;
  const int64_t step_;
  const uint64_t version_;
};

}  // namespace mxrec::testing
