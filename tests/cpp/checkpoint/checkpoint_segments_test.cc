// Checkpoints that take sealed files of the SSD tier as they are: what is in them, that they stay
// whatever happens to the table, and what becomes of damage and of faults.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/manifest.h"
#include "checkpoint/save.h"
#include "checkpoint/segment_part.h"
#include "env/fault_env.h"
#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

constexpr int kDim = 300;  // some hundred rows fill a segment of a MiB
constexpr int kRows = 6000;

TableOptions WideOptions(OptimizerKind kind, ValueType type = ValueType::kFloat32) {
  TableOptions options = Options(kind, 4, kDim);
  options.value_type = type;
  options.memory_rows = 20'000;
  return Tiered(options, 200);
}

// Makes rows for keys from `first` on and trains one in ten of them.
void Grow(Table* table, int64_t first, int64_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  constexpr int64_t kBatch = 150;
  for (int64_t begin = first; begin < first + rows; begin += kBatch) {
    std::vector<int64_t> keys;
    std::vector<int64_t> trained;
    for (int64_t key = begin; key < std::min(begin + kBatch, first + rows); ++key) {
      keys.push_back(key);
      if (random() % 10 == 0) trained.push_back(key);
    }
    std::vector<float> values(keys.size() * kDim);
    ASSERT_TRUE(table->LookupOrInsert(keys, values.data()).ok());
    for (float& value : values) value = uniform(random);
    if (table->options().optimizer.kind == OptimizerKind::kNone) {
      ASSERT_TRUE(table->Assign(keys, values.data()).ok());
      continue;
    }
    ApplyResult result;
    ASSERT_TRUE(table->ApplyGradients(trained, values.data(), std::nullopt, &result).ok());
  }
}

std::shared_ptr<Table> WideTable(const TableOptions& options, uint64_t seed, int rows = kRows) {
  auto table = MakeTable(options);
  Grow(table.get(), 0, rows, seed);
  // What is on its way to the disk gets there.
  int64_t written = -1;
  for (int64_t now = 0; now != written; now = table->Stats().tiers->bytes_written) {
    written = now;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return table;
}

checkpoint::Manifest ManifestOf(const std::string& dir) {
  auto manifest = checkpoint::ReadManifest(Env::Default(), dir);
  if (manifest.ok()) return std::move(manifest).value();
  ADD_FAILURE() << manifest.status().message();
  return {};
}

Contents Load(const std::vector<std::string>& dirs) {
  const auto loaded = LoadTable(dirs, 2);
  if (loaded.ok()) return ContentsOf(*loaded.value());
  ADD_FAILURE() << loaded.status().message();
  return {};
}

class CheckpointSegments : public ::testing::Test {
 protected:
  const TempDir dir_;  // on the file system of the tier's files
  const std::string path_ = dir_ / "t";
};

TEST_F(CheckpointSegments, HoldEveryKindOfRow) {
  for (const ValueType type : {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBfloat16}) {
    for (const bool stochastic : {false, true}) {
      if (stochastic && type == ValueType::kFloat32) continue;
      for (const OptimizerKind kind :
           {OptimizerKind::kSgd, OptimizerKind::kAdagrad, OptimizerKind::kLazyAdam}) {
        TableOptions options = WideOptions(kind, type);
        options.stochastic_rounding = stochastic;
        const auto table = WideTable(options, 1);
        const Contents then = ContentsOf(*table);
        const auto saved = SaveTable(*table, path_, 7);
        ASSERT_TRUE(saved.ok()) << saved.status().message();
        EXPECT_EQ(saved.value().rows, kRows);
        const checkpoint::Manifest manifest = ManifestOf(path_);
        EXPECT_EQ(manifest.version(), 5u);
        EXPECT_GT(manifest.segment_rows(), kRows / 2) << "most rows lie in sealed files";
        EXPECT_EQ(manifest.info.rows, kRows);
        EXPECT_EQ(manifest.info.bytes, saved.value().bytes);
        uint64_t bytes = 0;
        for (const std::string& file : Files(path_)) {
          bytes += std::filesystem::file_size(path_ + "/" + file);
        }
        EXPECT_EQ(manifest.info.bytes, bytes);
        EXPECT_EQ(VerifyCheckpoint(path_).status().message(), "");
        EXPECT_EQ(Load({path_}), then);
      }
    }
  }
}

TEST_F(CheckpointSegments, AreTheFilesOfTheTierAndOutliveThem) {
  auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 2);
  const Contents then = ContentsOf(*table);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  const size_t segments = ManifestOf(path_).segments.size();
  ASSERT_GT(segments, 3u);
  struct stat info;
  for (size_t i = 0; i < segments; ++i) {
    ASSERT_EQ(::stat((path_ + "/" + checkpoint::SegmentFile(i)).c_str(), &info), 0);
    EXPECT_EQ(info.st_nlink, 2u) << "segment " << i << " was copied";
  }
  // Other rows replace the files of the tier, then the tier goes.
  for (uint64_t seed = 3; seed < 6; ++seed) Grow(table.get(), 0, kRows, seed);
  EXPECT_EQ(Load({path_}), then);
  table.reset();
  ASSERT_EQ(::stat((path_ + "/" + checkpoint::SegmentFile(0)).c_str(), &info), 0);
  EXPECT_EQ(info.st_nlink, 1u);
  EXPECT_EQ(Load({path_}), then);
}

TEST_F(CheckpointSegments, GoIntoTablesWithAndWithoutATier) {
  const auto table = WideTable(WideOptions(OptimizerKind::kFtrl), 3);
  const Contents then = ContentsOf(*table);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  ASSERT_GT(ManifestOf(path_).segment_rows(), 0);
  for (const int64_t memory_rows : {50, 3000, 0}) {
    TableOptions options = WideOptions(OptimizerKind::kFtrl);
    options = memory_rows == 0 ? Untiered(options) : Tiered(Untiered(options), memory_rows);
    auto target = Table::Create(options).value();
    const auto restored = RestoreTable(target.get(), path_);
    ASSERT_TRUE(restored.ok()) << restored.status().message();
    EXPECT_EQ(ContentsOf(*target), then);
  }
  const auto target = Table::Create(WideOptions(OptimizerKind::kFtrl)).value();
  const auto rows = WarmStartTable(target, {path_}, {});
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_EQ(rows.value(), kRows);
}

TEST_F(CheckpointSegments, OfDeltasHoldWhatChanged) {
  const auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 4);
  std::vector<std::string> chain;
  std::string parent;
  int64_t linked = 0;
  for (int step = 0; step < 4; ++step) {
    if (step > 0) Grow(table.get(), 500 * step, 1500, 40 + static_cast<uint64_t>(step));
    const Contents then = ContentsOf(*table);
    auto snapshot = table->BeginSnapshot({.parent = parent, .tracks = true});
    ASSERT_TRUE(snapshot.ok()) << snapshot.status().message();
    chain.push_back(dir_ / ("v" + std::to_string(step)));
    const auto written = WriteSnapshot(&snapshot.value(), chain.back(), step);
    ASSERT_TRUE(written.ok()) << written.status().message();
    parent = written.value().uid;
    snapshot.value().End(parent, step);
    if (step > 0) {
      EXPECT_EQ(written.value().rows, 1500);
      linked += ManifestOf(chain.back()).segment_rows();
    }
    ASSERT_EQ(Load(chain), then) << "step " << step;
  }
  EXPECT_GT(linked, 0);
}

TEST_F(CheckpointSegments, AreCopiedWhereThereAreNoLinks) {
  const auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 5);
  FaultEnv env;
  env.AllowLinks(false);
  ASSERT_TRUE(SaveTable(*table, path_, 1, &env).ok());
  EXPECT_EQ(ManifestOf(path_).version(), 1u);
  EXPECT_EQ(Load({path_}), ContentsOf(*table));
}

TEST_F(CheckpointSegments, OfAnotherFileSystemAreCopied) {
  struct stat here, there;
  if (::stat("/dev/shm", &there) != 0 || ::access("/dev/shm", W_OK) != 0 ||
      ::stat(SsdDirectory().c_str(), &here) != 0 || here.st_dev == there.st_dev) {
    GTEST_SKIP() << "there is no other file system";
  }
  const TempDir other("/dev/shm");
  const auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 5);
  ASSERT_TRUE(SaveTable(*table, other / "t", 1).ok());
  EXPECT_EQ(ManifestOf(other / "t").version(), 1u);
  EXPECT_EQ(Load({other / "t"}), ContentsOf(*table));
}

TEST_F(CheckpointSegments, AnotherSaveReplacesThem) {
  const auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 6);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  Grow(table.get(), 0, 500, 7);
  ASSERT_TRUE(SaveTable(*table, path_, 2).ok());
  EXPECT_EQ(Load({path_}), ContentsOf(*table));
  EXPECT_EQ(Files(dir_.path()), std::vector<std::string>{"t"});
}

TEST_F(CheckpointSegments, EveryFailureLeavesTheOldCheckpoint) {
  const auto table = WideTable(WideOptions(OptimizerKind::kAdagrad), 8, 4000);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  const Contents old = Load({path_});
  Grow(table.get(), 0, 300, 9);
  FaultEnv env;
  env.FailMutation(-1);
  env.FailRead(-1);
  ASSERT_TRUE(SaveTable(*table, dir_ / "other", 2, &env).ok());
  const int64_t mutations = env.mutations(), reads = env.reads();
  ASSERT_GT(ManifestOf(dir_ / "other").segments.size(), 1u);
  ASSERT_TRUE(Env::Default()->DeleteTree(dir_ / "other").ok());
  for (int64_t n = 0; n < mutations; ++n) {
    env.FailMutation(n);
    const auto saved = SaveTable(*table, path_, 2, &env);
    env.FailMutation(-1);
    ASSERT_EQ(saved.status().code(), StatusCode::kIoError) << "operation " << n;
    ASSERT_EQ(ManifestOf(path_).info.step, 1) << "operation " << n;
    ASSERT_EQ(Files(dir_.path()), std::vector<std::string>{"t"}) << "operation " << n;
  }
  for (int64_t n = 0; n < reads; ++n) {
    env.FailRead(n);
    const auto saved = SaveTable(*table, path_, 2, &env);
    env.FailRead(-1);
    ASSERT_EQ(saved.status().code(), StatusCode::kIoError) << "read " << n;
  }
  EXPECT_EQ(Load({path_}), old);
  ASSERT_TRUE(SaveTable(*table, path_, 3).ok());
  EXPECT_EQ(Load({path_}), ContentsOf(*table));
}

TEST_F(CheckpointSegments, DamageIsNamedOrHarmless) {
  std::mt19937_64 random(TestSeed());
  const auto table = WideTable(WideOptions(OptimizerKind::kSgd), 10, 4000);
  const Contents then = ContentsOf(*table);
  ASSERT_TRUE(SaveTable(*table, dir_ / "linked", 1).ok());
  ASSERT_GT(ManifestOf(dir_ / "linked").segments.size(), 1u);
  // A copy, whose bytes can be changed without those of the table.
  std::filesystem::copy(dir_ / "linked", path_);
  std::vector<std::string> files;
  for (const std::string& file : Files(path_)) {
    if (file.starts_with("segment-")) files.push_back(file);
  }
  auto target = MakeTable(WideOptions(OptimizerKind::kSgd));
  int harmless = 0;
  for (int trial = 0; trial < 150 && !HasFailure(); ++trial) {
    const std::string file = path_ + "/" + files[random() % files.size()];
    const std::string good = ReadFile(file);
    std::string bad = good;
    const size_t at = random() % (trial % 3 == 0 ? 200 : good.size());
    SCOPED_TRACE(file + " at byte " + std::to_string(at));
    switch (trial % 5) {
      case 0:
        bad.resize(at);
        break;
      case 1:
        bad += 'x';
        break;
      default:
        bad[at] = static_cast<char>(bad[at] ^ static_cast<char>(1 << random() % 8));
    }
    WriteFile(file, bad);
    const auto restored = RestoreTable(target.get(), path_);
    WriteFile(file, good);
    if (restored.ok()) {
      ++harmless;  // no part of any row: padding, or a record that is none
      ASSERT_EQ(ContentsOf(*target), then);
      continue;
    }
    EXPECT_EQ(restored.status().code(), StatusCode::kDataLoss) << restored.status().message();
    EXPECT_EQ(restored.status().message().rfind(file + ": damaged at byte ", 0), 0u)
        << restored.status().message();
  }
  EXPECT_LT(harmless, 100);
}

std::vector<std::string> TierFiles() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(SsdDirectory())) {
    if (entry.path().filename().string().starts_with("segment-")) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

TEST_F(CheckpointSegments, WhatIsKnownToBeDamagedIsNotTakenUnread) {
  const auto table = WideTable(WideOptions(OptimizerKind::kSgd), 13);
  ASSERT_GT(TierFiles().size(), 3u);
  const std::string file = TierFiles()[1];
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, size - 4096);
  const Status cut = SaveTable(*table, path_, 1).status();
  EXPECT_EQ(cut.code(), StatusCode::kDataLoss);
  EXPECT_NE(cut.message().find(file + " has "), std::string::npos) << cut.message();
  // Of the same length, but with rows that cannot be read, as a lookup has found.
  std::filesystem::resize_file(file, size);
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(8192)
      << std::string(200'000, 'x');
  std::vector<int64_t> keys(kRows);
  std::iota(keys.begin(), keys.end(), 0);
  std::vector<float> out(keys.size() * kDim);
  EXPECT_FALSE(table->Lookup(keys, nullptr, out.data()).ok());
  const Status damaged = SaveTable(*table, path_, 2).status();
  EXPECT_NE(damaged.message().find("cannot read " + file), std::string::npos) << damaged.message();
  EXPECT_TRUE(Files(dir_.path()).empty());
}

TEST_F(CheckpointSegments, OfAnotherSaveDoNotPass) {
  const auto table = WideTable(WideOptions(OptimizerKind::kSgd), 11, 4000);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  auto target = MakeTable(WideOptions(OptimizerKind::kSgd));
  const std::string first = path_ + "/" + checkpoint::SegmentFile(0);
  const std::string second = path_ + "/" + checkpoint::SegmentFile(1);
  std::filesystem::rename(first, path_ + "/x");
  std::filesystem::rename(second, first);
  std::filesystem::rename(path_ + "/x", second);
  Status status = RestoreTable(target.get(), path_).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("another segment"), std::string::npos) << status.message();
  std::filesystem::remove(first);
  status = RestoreTable(target.get(), path_).status();
  EXPECT_EQ(status.message(),
            first + ": damaged at byte 0: the manifest lists this file, but it is missing");
  EXPECT_EQ(target->size(), 0);
}

TEST_F(CheckpointSegments, EveryByteOfTheManifestCounts) {
  const auto table = WideTable(WideOptions(OptimizerKind::kSgd), 12, 4000);
  ASSERT_TRUE(SaveTable(*table, path_, 1).ok());
  const std::string good = ReadFile(path_ + "/manifest");
  const auto body = good.substr(0, good.size() - 27);
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string bad = body;
    const size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, from.size(), to);
    char line[28];
    std::snprintf(line, sizeof(line), "#xxh3-64: %016llx\n",
                  static_cast<unsigned long long>(Checksum(bad)));
    WriteFile(path_ + "/manifest", bad + line);
    const Status status = VerifyCheckpoint(path_).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << from << " " << to << status.message();
  };
  refused("\"segment-00000\"", "\"../egment-000\"");
  refused("\"records\": ", "\"records\": 1");
  refused("\"records\": ", "\"records\": -");
  refused("\"run\": ", "\"run\": 1");
  refused("\"segment\": ", "\"segment\": 9");
  refused("\"version\": 5", "\"version\": 1");
  refused("\"segments\"", "\"segmentz\"");
  refused("\"files\"", "\"filez\"");
}

}  // namespace
}  // namespace mxrec::testing
