// Chains of a full checkpoint and deltas: restored they are the table at each version, in any order
// of restores, and whatever is wrong with a link is said.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "env/fault_env.h"
#include "env/temp_dir.h"
#include "mxrec/checkpoint.h"
#include "optimizers/random_seed.h"
#include "table/random_history.h"
#include "table/table_contents.h"

namespace mxrec::testing {
namespace {

// Ends the save as the outcome of writing it says.
Result<CheckpointInfo> SaveVersion(Table* table, const std::string& parent, const std::string& dir,
                                   int64_t step, Env* env = Env::Default()) {
  auto snapshot = table->BeginSnapshot({.parent = parent, .tracks = true});
  if (!snapshot.ok()) return snapshot.status();
  auto info = WriteSnapshot(&snapshot.value(), dir, step, env);
  snapshot.value().End(info.ok() ? info.value().uid : "", step);
  return info;
}

struct Version {
  std::vector<std::string> chain;
  Contents contents;
  AdmissionState admission;
  int64_t optimizer_step;
};

AdmissionState AdmissionOf(const Table& table) {
  const auto lock = table.LockForRead();
  return table.admission_state(lock.value());
}

// A random history with versions; now and then the table goes back to one of them, and on from
// there.
void RunChains(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  const TempDir dir;
  RandomHistory history(seed);
  Table& table = history.table();
  std::vector<Version> versions;
  std::vector<std::string> chain;
  for (int i = 0; i < 7 && !::testing::Test::HasFailure(); ++i) {
    for (int step = history.Draw(12); step > 0; --step) history.Step();
    if (!versions.empty() && history.Draw(3) == 0) {
      const Version& back =
          versions[static_cast<size_t>(history.Draw(static_cast<int>(versions.size())))];
      const auto restored = RestoreTable(&table, back.chain, {.tracks = true});
      ASSERT_TRUE(restored.ok()) << restored.status().message();
      ASSERT_EQ(ContentsOf(table), back.contents);
      ASSERT_EQ(table.lineage(), restored.value().uid);
      ASSERT_EQ(table.optimizer_step(), back.optimizer_step);
      history.ForgetAddresses();
      chain = back.chain;
      history.Step();
    }
    const bool full = chain.empty() || history.Draw(4) == 0;
    const Version version{{}, ContentsOf(table), AdmissionOf(table), table.optimizer_step()};
    const std::string path = dir / ("v" + std::to_string(i));
    const std::string parent = full ? "" : table.lineage();
    if (history.Draw(3) == 0) {  // a save that fails changes nothing
      FaultEnv env;
      env.FailMutation(history.Draw(4), FaultEnv::Mode::kOnce);
      ASSERT_FALSE(SaveVersion(&table, parent, path, i, &env).ok());
      ASSERT_FALSE(Env::Default()->Exists(path).value());
    }
    const auto info = SaveVersion(&table, parent, path, i);
    ASSERT_TRUE(info.ok()) << info.status().message();
    const auto read = ReadCheckpointInfo(path);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read.value().parent, parent);
    EXPECT_EQ(read.value().bytes, info.value().bytes);
    EXPECT_TRUE(VerifyCheckpoint(path).ok());
    if (full) chain.clear();
    chain.push_back(path);
    versions.push_back(version);
    versions.back().chain = chain;
  }
  for (const Version& version : versions) {
    const auto loaded = LoadTable(version.chain, 1 << history.Draw(4));
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    Contents contents = ContentsOf(*loaded.value());
    // Admission that was off and eviction that was on leave no counts.
    ASSERT_EQ(contents.rows, version.contents.rows);
    ASSERT_EQ(contents.counts, version.contents.counts);
    if (history.options().admission.on() || history.options().eviction.on()) {
      EXPECT_EQ(AdmissionOf(*loaded.value()), version.admission);
    }
    EXPECT_EQ(loaded.value()->optimizer_step(), version.optimizer_step);
  }
}

TEST(CheckpointDeltaTest, ChainsRestoreEveryVersion) {
  MXREC_TRACE_SEED();
  for (uint64_t seed = 0; seed < 30 && !HasFailure(); ++seed) RunChains(seed);
  for (uint64_t i = 0; i < 10 && !HasFailure(); ++i) RunChains(TestSeed() + i);
}

class BrokenChainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) {
      chain_.push_back(dir_ / ("v" + std::to_string(i)));
      history_.Train(history_.Keys(300));
      const auto info = SaveVersion(&history_.table(), i == 0 ? "" : history_.table().lineage(),
                                    chain_.back(), i);
      ASSERT_TRUE(info.ok()) << info.status().message();
    }
    before_ = ContentsOf(history_.table());
  }
  // The message of a restore that has to fail and to leave the table alone.
  std::string Refused(const std::vector<std::string>& chain) {
    const auto restored = RestoreTable(&history_.table(), chain, {.tracks = true});
    EXPECT_FALSE(restored.ok());
    EXPECT_EQ(ContentsOf(history_.table()), before_);
    EXPECT_EQ(restored.status().code(), StatusCode::kDataLoss) << restored.status().message();
    return restored.status().message();
  }

  const TempDir dir_;
  RandomHistory history_{1};
  std::vector<std::string> chain_;
  Contents before_;
};

TEST(CheckpointDeltaTest, ATableNeedsRoomForTheLastRowsAlone) {
  const TempDir dir;
  TableOptions options;
  options.name = "t";
  options.dim = 2;
  const auto table = Table::Create(options).value();
  std::vector<int64_t> keys(1000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i);
  const std::vector<float> values(keys.size() * 2, 1.0f);
  ASSERT_TRUE(table->Assign(keys, values.data()).ok());
  ASSERT_TRUE(SaveVersion(table.get(), "", dir / "full", 1).ok());
  ASSERT_TRUE(table->Erase({keys.data(), 900}).ok());
  ASSERT_TRUE(SaveVersion(table.get(), table->lineage(), dir / "delta", 2).ok());
  options.memory_rows = 200;
  const auto small = Table::Create(options).value();
  const auto restored = RestoreTable(small.get(), {dir / "full", dir / "delta"}, {});
  ASSERT_TRUE(restored.ok()) << restored.status().message();
  EXPECT_EQ(small->size(), 100);
  EXPECT_EQ(small->capacity(), 200);
  EXPECT_FALSE(RestoreTable(small.get(), dir / "full").ok());
  EXPECT_EQ(small->size(), 100);
}

TEST_F(BrokenChainTest, LinksOutOfPlaceAreNamed) {
  EXPECT_NE(Refused({chain_[1], chain_[2]}).find(chain_[1] + ": this is a delta"),
            std::string::npos);
  EXPECT_NE(Refused({chain_[0], chain_[2]}).find(chain_[2] + ": this is a delta"),
            std::string::npos);
  EXPECT_NE(Refused({chain_[0], chain_[2], chain_[1]}).find(chain_[2]), std::string::npos);
  EXPECT_NE(Refused({chain_[0], chain_[0]}).find("a full checkpoint"), std::string::npos);
}

std::string BytesOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST_F(BrokenChainTest, EveryChangedByteOfADeltaIsNoticed) {
  const std::vector<std::string> names = Env::Default()->List(chain_[2]).value();
  for (const std::string& name : names) {
    const std::string path = chain_[2] + "/" + name;
    const std::string good = BytesOf(path);
    for (size_t i = 0; i < good.size() && !HasFailure(); i += 1 + good.size() / 200) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0x20);
      std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
      EXPECT_NE(Refused(chain_).find(path + ": damaged at byte "), std::string::npos);
      std::ofstream(path, std::ios::binary | std::ios::trunc) << good.substr(0, i);
      EXPECT_NE(Refused(chain_).find(path + ": damaged at byte "), std::string::npos);
    }
    std::ofstream(path, std::ios::binary | std::ios::trunc) << good;
  }
  EXPECT_TRUE(RestoreTable(&history_.table(), chain_, {}).ok());
}

TEST_F(BrokenChainTest, EveryOperationOfAWriteMayFail) {
  Table& table = history_.table();
  history_.Train(history_.Keys(300));
  FaultEnv env;
  int64_t mutations = 1;
  const std::string parent = table.lineage();
  for (int64_t n = 0; n < mutations; ++n) {
    env.FailMutation(n);
    const std::string path = dir_ / "next";
    const auto info = SaveVersion(&table, parent, path, 9, &env);
    if (info.ok()) {
      ADD_FAILURE() << "operation " << n << " failed without notice";
      break;
    }
    EXPECT_EQ(info.status().code(), StatusCode::kIoError);
    EXPECT_FALSE(Env::Default()->Exists(path).value());
    EXPECT_EQ(table.lineage(), parent);
    if (n == 0) {
      env.FailMutation(-1);
      auto snapshot = table.BeginSnapshot({.parent = parent}).value();
      ASSERT_TRUE(WriteSnapshot(&snapshot, dir_ / "counted", 9, &env).ok());
      mutations = env.mutations();
    }
  }
  EXPECT_GT(mutations, 8);
  const Contents now = ContentsOf(table);
  ASSERT_TRUE(SaveVersion(&table, parent, dir_ / "last", 9).ok());
  chain_.push_back(dir_ / "last");
  EXPECT_EQ(ContentsOf(*LoadTable(chain_).value()), now);
}

}  // namespace
}  // namespace mxrec::testing
