// Disks that fail below a table: each error names what failed, no wrong row is ever returned, a
// call that fails changes nothing, and what is in memory stays usable.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "env/fault_env.h"
#include "env/temp_dir.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/table_contents.h"
#include "table/tiers.h"
#include "util/page_allocator.h"

namespace mxrec {
namespace {

using testing::FaultEnv;
using testing::TempDir;
using Mode = FaultEnv::Mode;

using testing::Range;

constexpr int kDim = 4;
constexpr int kWide = 1024;  // so that a short run is written and read back

std::vector<float> Rows(const std::vector<int64_t>& keys, int round, int dim = kDim) {
  std::vector<float> rows;
  for (const int64_t key : keys) {
    for (int c = 0; c < dim; ++c) {
      rows.push_back(static_cast<float>(key * 64 + round * 8 + c % 8));
    }
  }
  return rows;
}

// A table and the values that its rows must have.
class Drill {
 public:
  Drill(Env* env, const std::string& dir, int64_t memory_rows, int64_t capacity = 4000,
        int dim = kDim)
      : dir_(dir), dim_(dim) {
    TableOptions options;
    options.name = "ads";
    options.dim = dim;
    options.num_shards = 4;
    options.optimizer.kind = OptimizerKind::kSgd;
    options.memory_rows = memory_rows;
    options.ssd_rows = capacity - memory_rows;
    options.ssd_paths = {dir};
    options.env = env;
    options_ = options;
    auto table = Table::Create(options);
    Note(table.status());
    if (table.ok()) table_ = std::move(table).value();
  }

  bool made() const { return table_ != nullptr; }
  Table& table() { return *table_; }
  const TableOptions& options() const { return options_; }
  int errors() const { return errors_; }
  void Expect(const std::string& what) { expected_ = what; }

  void Note(const Status& status) {
    if (status.ok()) return;
    ++errors_;
    const std::string& message = status.message();
    EXPECT_NE(message.find("table 'ads'"), std::string::npos) << message;
    EXPECT_NE(message.find(dir_), std::string::npos) << message;
    if (!expected_.empty()) {
      EXPECT_NE(message.find(expected_), std::string::npos) << message;
    }
  }
  bool Assign(const std::vector<int64_t>& keys, int round) {
    const std::vector<float> rows = Rows(keys, round, dim_);
    const Status status = table_->Assign(keys, rows.data());
    Note(status);
    for (size_t i = 0; status.ok() && i < keys.size(); ++i) model_[keys[i]] = round;
    return status.ok();
  }
  void Erase(const std::vector<int64_t>& keys) {
    const auto erased = table_->Erase(keys);
    Note(erased.status());
    for (size_t i = 0; erased.ok() && i < keys.size(); ++i) model_.erase(keys[i]);
  }
  // Whether they could be read; then they are right.
  bool Read(const std::vector<int64_t>& keys) {
    std::vector<float> out(keys.size() * dim(), -1.0f);
    const Status status = table_->Lookup(keys, nullptr, out.data());
    Note(status);
    if (!status.ok()) return false;
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto row = model_.find(keys[i]);
      const std::vector<float> expected = row == model_.end() ? std::vector<float>(dim(), 0.0f)
                                                              : Rows({keys[i]}, row->second, dim_);
      EXPECT_EQ(std::vector<float>(&out[i * dim()], &out[i * dim()] + dim()), expected)
          << "key " << keys[i];
    }
    return true;
  }
  std::vector<int64_t> Keys() const {
    std::vector<int64_t> keys;
    for (const auto& [key, round] : model_) keys.push_back(key);
    return keys;
  }
  // The table is the model.
  void ExpectAll() {
    ASSERT_EQ(table_->size(), static_cast<int64_t>(model_.size()));
    std::vector<int64_t> keys = Keys();
    keys.push_back(-1);
    EXPECT_TRUE(Read(keys));
    const auto found = testing::ContentsOf(*table_);
    ASSERT_EQ(found.rows.size(), model_.size());
    for (const auto& [key, round] : model_) {
      ASSERT_TRUE(found.rows.contains(key)) << key;
      ASSERT_EQ(found.rows.at(key).values, Rows({key}, round, dim_)) << key;
    }
  }
  // Inserts, overwrites, erasures, reads, lookups ahead.
  void Work() {
    for (int round = 0; round < 6; ++round) {
      const int64_t begin = round * 97 % 400;
      Assign(Range(begin, begin + 120), round);
      Read(Range(0, 500));
      if (round == 2) Erase(Range(50, 120));
      Assign(Range(1000 + round, 1001 + round), round);
      if (round == 3) {
        Note(table_->Prepare(Range(0, 100)));
        Assign(Range(0, 100), 7);
      }
      UniqueKeys unique;
      Note(table_->Resolve(Range(begin, begin + 60), ResolveMode::kFind, nullptr, &unique));
    }
  }

 private:
  size_t dim() const { return static_cast<size_t>(dim_); }

  const std::string dir_;
  const int dim_;
  TableOptions options_;
  std::shared_ptr<Table> table_;
  std::map<int64_t, int> model_;  // round of the last assignment
  std::string expected_;
  int errors_ = 0;
};

class TableTiersFaultTest : public ::testing::Test {
 protected:
  int64_t Count(bool reads) {
    const TempDir dir;
    FaultEnv env;
    Drill drill(&env, dir.path(), 10, 4000, kWide);
    drill.Work();
    drill.ExpectAll();
    EXPECT_EQ(drill.errors(), 0);
    return reads ? env.reads() : env.mutations();
  }
  void FailEach(bool reads, Mode mode, StatusCode code) {
    // Rows that the log has not written yet are not read from the disk: on a machine that is busy
    // with something else these may be most.
    const int64_t least = reads ? 100 : 10;
    int64_t operations = 0;
    for (int i = 0; i < 100 && operations <= least; ++i) operations = Count(reads);
    ASSERT_GT(operations, least);
    int failed = 0;
    for (int64_t n = 0; n < operations && !HasFailure(); ++n) {
      SCOPED_TRACE((reads ? "read " : "mutation ") + std::to_string(n));
      const TempDir dir;
      FaultEnv env;
      env.FailWith(code);
      if (reads) {
        env.FailRead(n, mode);
      } else {
        env.FailMutation(n, mode);
      }
      Drill drill(&env, dir.path(), 10, 4000, kWide);
      drill.Expect("injected fault");
      if (!drill.made()) {
        ++failed;
        continue;
      }
      drill.Work();
      env.FailRead(-1);
      env.FailMutation(-1);
      failed += drill.errors() > 0;
      // Well again. The first append tells of the write that failed.
      for (int i = 0; i < 3; ++i) drill.Assign(Range(2000, 2030), 1);
      drill.ExpectAll();
    }
    EXPECT_GT(failed, 0);
  }
};

TEST_F(TableTiersFaultTest, ReadsThatFailOnce) {
  FailEach(true, Mode::kOnce, StatusCode::kIoError);
}
TEST_F(TableTiersFaultTest, ReadsThatFailFromThenOn) {
  FailEach(true, Mode::kFromThenOn, StatusCode::kIoError);
}
TEST_F(TableTiersFaultTest, WritesThatFailOnce) {
  FailEach(false, Mode::kOnce, StatusCode::kIoError);
}
TEST_F(TableTiersFaultTest, WritesThatFailFromThenOn) {
  FailEach(false, Mode::kFromThenOn, StatusCode::kIoError);
}
TEST_F(TableTiersFaultTest, DisksThatAreFull) {
  FailEach(false, Mode::kFromThenOn, StatusCode::kResourceExhausted);
}

TEST_F(TableTiersFaultTest, RowsInMemoryAreUsableWithoutTheDisk) {
  const TempDir dir;
  FaultEnv env;
  Drill drill(&env, dir.path(), 200);
  ASSERT_TRUE(drill.Assign(Range(0, 900), 1));
  ASSERT_TRUE(drill.Assign(Range(900, 1000), 1));
  env.FailRead(0, Mode::kFromThenOn);
  env.FailMutation(0, Mode::kFromThenOn);
  for (int round = 2; round < 6; ++round) {
    EXPECT_TRUE(drill.Assign(Range(900, 1000), round));
    EXPECT_TRUE(drill.Read(Range(900, 1000)));
    UniqueKeys unique;
    EXPECT_TRUE(
        drill.table().Resolve(Range(900, 1000), ResolveMode::kInsert, nullptr, &unique).ok());
  }
  EXPECT_EQ(drill.errors(), 0);
  env.FailRead(-1);
  env.FailMutation(-1);
  drill.ExpectAll();
}

// Memory runs out at the n-th allocation of pages.
TEST_F(TableTiersFaultTest, MemoryThatRunsOut) {
  for (int64_t n = 0; n < 40 && !HasFailure(); ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const TempDir dir;
    Drill drill(nullptr, dir.path(), 100, 200'000);
    drill.Assign(Range(0, 90), 1);
    PageAllocator::FailAllocation(n);
    int failed = 0;
    std::vector<int64_t> there = Range(0, 90);
    for (int64_t first = 1000; first < 40'000; first += 3000) {
      const std::vector<int64_t> keys = Range(first, first + 3000);
      const Status status = drill.table().Assign(keys, Rows(keys, 2).data());
      if (status.ok()) {
        there.insert(there.end(), keys.begin(), keys.end());
        continue;
      }
      ++failed;
      EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
      EXPECT_NE(status.message().find("table 'ads'"), std::string::npos) << status.message();
    }
    PageAllocator::FailAllocation(-1);
    const auto found = testing::ContentsOf(drill.table());
    ASSERT_EQ(found.rows.size(), there.size());
    ASSERT_EQ(drill.table().size(), static_cast<int64_t>(there.size()));
    for (const int64_t key : there) {
      ASSERT_TRUE(found.rows.contains(key)) << key;
      ASSERT_EQ(found.rows.at(key).values, Rows({key}, key < 90 ? 1 : 2)) << key;
    }
    const TierStats tiers = drill.table().Stats().tiers.value();
    EXPECT_EQ(tiers.memory_rows + tiers.ssd_rows, drill.table().size());
    if (failed == 0 && n > 5) break;  // there are no more
  }
}

// --- Files that something else has damaged.

std::vector<std::string> Segments(const std::string& dir) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    if (entry.path().filename().string().starts_with("segment-")) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

// One that has records where it is going to be damaged.
std::string FilledSegment(const std::string& dir) {
  for (const std::string& segment : Segments(dir)) {
    std::ifstream file(segment, std::ios::binary);
    std::string bytes(64 << 10, '\0');
    file.seekg(400'000);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (std::ranges::count(bytes, '\0') < static_cast<int64_t>(bytes.size() / 2)) return segment;
  }
  ADD_FAILURE() << "nothing is on the disk";
  return {};
}

class TableTiersDamageTest : public TableTiersFaultTest {
 protected:
  // A table whose rows are on the disk, and a checkpoint of it.
  void SetUp() override {
    drill_ = std::make_unique<Drill>(nullptr, dir_.path(), 100, 200'000);
    for (int64_t key = 0; key < 90'000; key += 3000) drill_->Assign(Range(key, key + 3000), 1);
    ASSERT_TRUE(SaveTable(drill_->table(), saved_.path() + "/linked", 1).ok());
    // What happens to the table's files does not happen to those of a copy.
    std::filesystem::copy(saved_.path() + "/linked", saved_.path() + "/v");
    drill_->Assign(Range(100'000, 100'090), 1);  // these are in memory
    ASSERT_EQ(drill_->errors(), 0);
    ASSERT_GE(Segments(dir_.path()).size(), 2u);
  }
  // Every row is right or an error; then goes on with the rows that are there, and restores.
  void Check(const std::string& segment) {
    drill_->Expect(segment);
    int lost = 0;
    for (int64_t key = 0; key < 90'000; key += 50) {
      if (!drill_->Read(Range(key, key + 50))) ++lost;
    }
    EXPECT_GT(lost, 0);
    EXPECT_LT(lost, 1800);
    EXPECT_TRUE(drill_->Read(Range(100'000, 100'090)));
    EXPECT_TRUE(drill_->Assign(Range(100'000, 100'090), 3));
    EXPECT_GE(drill_->table().Stats().tiers->errors, lost);
    EXPECT_FALSE(SaveTable(drill_->table(), saved_.path() + "/broken", 2).ok());
    // What cannot be read can be erased and made again.
    for (int64_t key = 0; key < 90'000; key += 500) {
      if (!drill_->Read(Range(key, key + 500))) drill_->Erase(Range(key, key + 500));
    }
    drill_->ExpectAll();
    const auto restored = RestoreTable(&drill_->table(), saved_.path() + "/v");
    ASSERT_TRUE(restored.ok()) << restored.status().message();
    EXPECT_EQ(drill_->table().size(), 90'000);
    std::vector<float> out(90'000 * kDim);
    ASSERT_TRUE(drill_->table().Lookup(Range(0, 90'000), nullptr, out.data()).ok());
    EXPECT_EQ(out, Rows(Range(0, 90'000), 1));
  }

  TempDir dir_, saved_;
  std::unique_ptr<Drill> drill_;
};

TEST_F(TableTiersDamageTest, WrongBytes) {
  const std::string segment = FilledSegment(dir_.path());
  {
    std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(400'000);
    file << std::string(64 << 10, '\x5A');
  }
  Check(segment);
}

TEST_F(TableTiersDamageTest, ATruncatedSegment) {
  const std::string segment = FilledSegment(dir_.path());
  std::filesystem::resize_file(segment, 300'000);
  Check(segment);
}

TEST_F(TableTiersDamageTest, DeletedSegmentsAreReadFromTheOpenFile) {
  for (const std::string& segment : Segments(dir_.path())) std::filesystem::remove(segment);
  drill_->ExpectAll();
  EXPECT_TRUE(drill_->Assign(Range(0, 3000), 2));
  drill_->ExpectAll();
}

TableOptions SweptOptions(const std::string& dir) {
  TableOptions options;
  options.name = "ads";
  options.dim = kDim;
  options.num_shards = 4;
  options.memory_rows = 100;
  options.ssd_rows = 200'000;
  options.ssd_paths = {dir};
  return options;
}

// A sweep by norms leaves the rows alone that it cannot read, no others, and says so.
TEST_F(TableTiersFaultTest, ASweepByNormsMissesOnlyRowsThatCannotBeRead) {
  const TempDir dir;
  TableOptions options = SweptOptions(dir.path());
  options.eviction.min_l2 = 1e6f;
  const auto table = Table::Create(options).value();
  constexpr int64_t kRows = 90'000;
  for (int64_t key = 0; key < kRows; key += 3000) {
    const std::vector<int64_t> keys = Range(key, key + 3000);
    ASSERT_TRUE(table->Assign(keys, std::vector<float>(keys.size() * kDim, 0.3f).data()).ok());
  }
  const std::string segment = FilledSegment(dir.path());
  {
    std::fstream file(segment, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(400'000);
    file.write("wrong bytes, some twenty", 24);  // of a row or two
  }
  ASSERT_TRUE(table->Evict(std::nullopt, std::nullopt).ok());
  EXPECT_GT(table->size(), 0);
  EXPECT_LE(table->size(), 3);
  const TierStats tiers = table->Stats().tiers.value();
  EXPECT_GT(tiers.errors, 0);
  EXPECT_NE(tiers.background_error.find("table 'ads'"), std::string::npos);
  EXPECT_NE(tiers.background_error.find(segment), std::string::npos) << tiers.background_error;
}

// Norms of rows on SSD do not change: each is read once, whatever becomes of the rule.
TEST_F(TableTiersFaultTest, ASweepByNormsReadsARowOnce) {
  const TempDir dir;
  const auto table = Table::Create(SweptOptions(dir.path())).value();
  constexpr int64_t kRows = 60'000;
  for (int64_t key = 0; key < kRows; key += 3000) {  // norms are 2 x (key % 4 + 1)
    const std::vector<int64_t> keys = Range(key, key + 3000);
    std::vector<float> values;
    for (const int64_t each : keys)
      values.insert(values.end(), kDim, static_cast<float>(each % 4 + 1));
    ASSERT_TRUE(table->Assign(keys, values.data()).ok());
  }
  int64_t reads = table->Stats().tiers->read_requests;
  const auto sweep = [&](float norm) {
    EXPECT_TRUE(table->ConfigureEviction({.min_l2 = norm}).ok());
    EXPECT_TRUE(table->Evict(std::nullopt, std::nullopt).ok());
    const int64_t now = table->Stats().tiers->read_requests;
    return now - std::exchange(reads, now);
  };
  EXPECT_GT(sweep(3.0f), 0);
  EXPECT_EQ(table->size(), kRows / 4 * 3);
  EXPECT_EQ(sweep(3.0f), 0) << "what is left is known to be large enough";
  EXPECT_EQ(sweep(1.0f), 0) << "and so by a lower rule";
  EXPECT_GT(sweep(5.0f), 0) << "a higher one is another question";
  EXPECT_EQ(table->size(), kRows / 4 * 2);
  EXPECT_EQ(sweep(5.0f), 0);
  EXPECT_EQ(sweep(3.0f), 0);
  EXPECT_GT(sweep(7.0f), 0);
  EXPECT_EQ(table->size(), kRows / 4);
  // Rows that come to SSD while there is a rule are known, too.
  std::vector<int64_t> small, large;
  for (int64_t key = 100'000; key < 110'000; key += 2)
    small.push_back(key), large.push_back(key + 1);
  ASSERT_TRUE(table->Assign(small, std::vector<float>(small.size() * kDim, 1.0f).data()).ok());
  ASSERT_TRUE(table->Assign(large, std::vector<float>(large.size() * kDim, 9.0f).data()).ok());
  const std::vector<int64_t> others = Range(200'000, 200'100);
  ASSERT_TRUE(table->Assign(others, std::vector<float>(others.size() * kDim, 9.0f).data()).ok());
  const int64_t moved = sweep(7.0f);
  EXPECT_EQ(table->size(), kRows / 4 + 5000 + 100);
  EXPECT_EQ(sweep(7.0f), 0);
  (void)moved;
}

TEST_F(TableTiersFaultTest, APathThatCannotBeUsedIsRefused) {
  const TempDir dir;
  for (const std::string& path : {dir / "absent", dir / "file"}) {
    std::ofstream(dir / "file") << "text";
    Drill drill(nullptr, path, 10);
    EXPECT_FALSE(drill.made());
    EXPECT_EQ(drill.errors(), 1);
  }
}

// --- Processes that end.

constexpr char kChildDirectory[] = "MXREC_TEST_CRASH_DIRECTORY";

// What the next test starts: it has rows on SSD until it is killed.
TEST(TableTiersChild, DISABLED_WaitsToBeKilled) {
  const char* const directory = std::getenv(kChildDirectory);
  if (directory == nullptr) GTEST_SKIP() << "started by another test only";
  Drill drill(nullptr, directory, 100, 200'000);
  drill.Assign(Range(0, 50'000), 1);
  std::ofstream(std::string(directory) + "/ready") << "yes";
  std::this_thread::sleep_for(std::chrono::minutes(1));
}

TEST_F(TableTiersFaultTest, WhatAKilledProcessLeavesIsRemovedAndALivingOnesIsNot) {
  const TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv(kChildDirectory, dir.path().c_str(), 1);
    ::execl("/proc/self/exe", "table_tiers_fault_test", "--gtest_also_run_disabled_tests",
            "--gtest_filter=TableTiersChild.*", nullptr);
    ::_exit(1);
  }
  const auto of_child = [&] {
    int found = 0;
    const std::vector<std::string> names = Env::Default()->List(dir.path()).value();
    for (const std::string& name : names) {
      found += name.starts_with("mxrec-ssd-" + std::to_string(child) + "-");
    }
    return found;
  };
  for (int i = 0; i < 600 && !std::filesystem::exists(dir / "ready"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_TRUE(std::filesystem::exists(dir / "ready"));
  ASSERT_EQ(of_child(), 1);
  {
    Drill drill(nullptr, dir.path(), 10);
    ASSERT_TRUE(drill.made());
    drill.Work();
    drill.ExpectAll();
    EXPECT_EQ(of_child(), 1) << "it lives";
  }
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int state = 0;
  ASSERT_EQ(::waitpid(child, &state, 0), child);
  EXPECT_EQ(of_child(), 1);
  Drill drill(nullptr, dir.path(), 10);
  ASSERT_TRUE(drill.made());
  drill.Work();
  drill.ExpectAll();
  EXPECT_EQ(of_child(), 0);
}

}  // namespace
}  // namespace mxrec
