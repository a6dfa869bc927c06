// Every operation of a save fails once, and the process dies at every operation of a save.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/save.h"
#include "env/fault_env.h"
#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

constexpr checkpoint::SaveLimits kSmall = {.block_bytes = 2048, .part_bytes = 5000};

class SaveFault : public ::testing::Test {
 protected:
  void SetUp() override {
    table_ = MakeTable(Options(OptimizerKind::kFtrl));
    Train(table_.get(), 300, 1);
    old_ = ContentsOf(*table_);
    ASSERT_TRUE(Save(Env::Default(), 1).ok());
    Train(table_.get(), 400, 2);
    new_ = ContentsOf(*table_);
  }

  Result<CheckpointInfo> Save(Env* env, int64_t step) {
    return checkpoint::SaveWithLimits(*table_, path_, step, env, kSmall);
  }

  // Mutations of a save that replaces the one of SetUp; that one is there again afterwards.
  int64_t CountMutations() {
    FaultEnv env;
    const std::string kept = dir_ / "kept";
    EXPECT_TRUE(Env::Default()->Rename(path_, kept).ok());
    EXPECT_TRUE(Save(Env::Default(), 3).ok());
    env.FailMutation(-1);
    EXPECT_TRUE(Save(&env, 3).ok());
    EXPECT_TRUE(Env::Default()->DeleteTree(path_).ok());
    EXPECT_TRUE(Env::Default()->Rename(kept, path_).ok());
    return env.mutations();
  }

  Contents Load(const std::string& path) {
    const auto loaded = LoadTable(path, 2);
    if (loaded.ok()) return ContentsOf(*loaded.value());
    ADD_FAILURE() << loaded.status().message();
    return {};
  }

  const TempDir dir_;
  const std::string path_ = dir_ / "t";
  std::shared_ptr<Table> table_;
  Contents old_;
  Contents new_;
};

TEST_F(SaveFault, TheOldCheckpointSurvivesEveryFailure) {
  const int64_t mutations = CountMutations();
  ASSERT_GT(mutations, 20);
  for (int64_t n = 0; n < mutations; ++n) {
    FaultEnv env;
    env.FailMutation(n);
    const auto result = Save(&env, 2);
    if (n + 1 == mutations) {
      // Only deleting the replaced one fails: the save is complete, the next one cleans up.
      ASSERT_TRUE(result.ok());
      EXPECT_EQ(Load(path_), new_);
      EXPECT_EQ(Files(dir_.path()).size(), 2u);
      break;
    }
    ASSERT_EQ(result.status().code(), StatusCode::kIoError) << "operation " << n;
    EXPECT_NE(result.status().message().find("injected fault"), std::string::npos);
    EXPECT_EQ(Files(dir_.path()), std::vector<std::string>{"t"}) << "operation " << n;
    EXPECT_EQ(ReadCheckpointInfo(path_).value().step, 1);
    ASSERT_EQ(Load(path_), old_) << "operation " << n;
  }
  ASSERT_TRUE(Save(Env::Default(), 3).ok());
  EXPECT_EQ(Files(dir_.path()), std::vector<std::string>{"t"}) << "leftovers are gone";
}

TEST_F(SaveFault, AFirstSaveThatFailsLeavesNothing) {
  ASSERT_TRUE(Env::Default()->DeleteTree(path_).ok());
  FaultEnv counting;
  counting.FailMutation(-1);
  ASSERT_TRUE(Save(&counting, 2).ok());
  const int64_t mutations = counting.mutations();
  for (int64_t n = 0; n < mutations; ++n) {
    ASSERT_TRUE(Env::Default()->DeleteTree(path_).ok());
    FaultEnv env;
    env.FailMutation(n);
    EXPECT_EQ(Save(&env, 2).status().code(), StatusCode::kIoError) << "operation " << n;
    EXPECT_TRUE(Files(dir_.path()).empty()) << "operation " << n;
  }
}

TEST_F(SaveFault, EveryFailedLookAtTheDiskIsAnError) {
  FaultEnv counting;
  counting.FailRead(-1);
  ASSERT_TRUE(Save(&counting, 1).ok());
  for (int64_t n = 0; n < counting.reads(); ++n) {
    FaultEnv env;
    env.FailRead(n);
    EXPECT_EQ(Save(&env, 2).status().code(), StatusCode::kIoError) << "operation " << n;
    EXPECT_EQ(ReadCheckpointInfo(path_).value().step, 1);
    EXPECT_EQ(Files(dir_.path()), std::vector<std::string>{"t"});
  }
}

// From operation n on the disk takes nothing: what is on it is what the next process finds.
TEST_F(SaveFault, AfterACrashACompleteCheckpointIsThere) {
  const int64_t mutations = CountMutations();
  for (int64_t n = 0; n < mutations; ++n) {
    const TempDir crashed;
    const std::string path = crashed / "t";
    std::filesystem::copy(path_, path);
    FaultEnv env;
    env.FailMutation(n, FaultEnv::Mode::kFromThenOn);
    const auto result = checkpoint::SaveWithLimits(*table_, path, 2, &env, kSmall);
    ASSERT_EQ(result.ok(), n + 1 == mutations) << "operation " << n;

    const auto found = LoadTable(path, 2);
    if (found.ok()) {
      const Contents contents = ContentsOf(*found.value());
      EXPECT_TRUE(contents == old_ || contents == new_) << "operation " << n;
    } else {
      // Between the two renames: the error says where the old checkpoint is.
      ASSERT_EQ(found.status().code(), StatusCode::kNotFound);
      const std::string& message = found.status().message();
      const size_t begin = message.find(path + ".old-");
      ASSERT_NE(begin, std::string::npos) << message;
      EXPECT_EQ(Load(message.substr(begin, (path + ".old-").size() + 32)), old_);
    }
    // The next save goes through, and the one after it has cleaned up what was set aside.
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(SaveTable(*table_, path, 3).ok()) << "operation " << n;
    }
    EXPECT_EQ(Load(path), new_);
    for (const std::string& name : Files(crashed.path())) {
      EXPECT_EQ(name.find(".old-"), std::string::npos) << name;
    }
  }
}

}  // namespace
}  // namespace mxrec::testing
