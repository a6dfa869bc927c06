#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/save.h"
#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

constexpr OptimizerKind kKinds[] = {OptimizerKind::kNone,     OptimizerKind::kSgd,
                                    OptimizerKind::kMomentum, OptimizerKind::kAdagrad,
                                    OptimizerKind::kFtrl,     OptimizerKind::kLazyAdam};

// (optimizer, shards that read)
class RoundTrip : public ::testing::TestWithParam<std::tuple<OptimizerKind, int>> {};

TEST_P(RoundTrip, LoadAndRestoreGiveEqualBits) {
  const auto [kind, shards] = GetParam();
  const TempDir dir;
  const auto table = MakeTable(Options(kind, 4));
  Train(table.get(), 5000, TestSeed());
  // Small blocks and parts, so that there are many of both.
  const auto saved = checkpoint::SaveWithLimits(*table, dir / "t", 42, Env::Default(),
                                                {.block_bytes = 4096, .part_bytes = 50000});
  ASSERT_TRUE(saved.ok()) << saved.status().message();
  EXPECT_GT(Files(dir / "t").size(), 3u);
  EXPECT_EQ(Files(dir.path()), std::vector<std::string>{"t"});

  const auto loaded = LoadTable(dir / "t", shards);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value()->options().num_shards, shards);
  EXPECT_EQ(ContentsOf(*loaded.value()), ContentsOf(*table));
  EXPECT_EQ(loaded.value()->optimizer_step(), table->optimizer_step());

  TableOptions other = Options(kind, shards);
  other.name = "other";
  other.seed = 5;
  const auto target = MakeTable(other);
  Train(target.get(), 100, 1);
  const auto restored = RestoreTable(target.get(), dir / "t");
  ASSERT_TRUE(restored.ok()) << restored.status().message();
  EXPECT_EQ(restored.value().step, 42);
  EXPECT_EQ(restored.value().uid, saved.value().uid);
  EXPECT_EQ(ContentsOf(*target), ContentsOf(*table));
  EXPECT_EQ(target->optimizer_step(), table->optimizer_step());
  EXPECT_EQ(target->name(), "other");

  // Both go on alike: nothing that a step needs was lost.
  Train(table.get(), 6000, TestSeed() + 1);
  Train(loaded.value().get(), 6000, TestSeed() + 1);
  EXPECT_EQ(WithoutTimes(ContentsOf(*loaded.value())), WithoutTimes(ContentsOf(*table)));
}

INSTANTIATE_TEST_SUITE_P(All, RoundTrip,
                         ::testing::Combine(::testing::ValuesIn(kKinds),
                                            ::testing::Values(1, 4, 64)),
                         [](const auto& info) {
                           return std::string(OptimizerName(std::get<0>(info.param))) + "To" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(Checkpoint, InfoHoldsEverythingOfTheTable) {
  const TempDir dir;
  TableOptions options = Options(OptimizerKind::kFtrl, 8);
  options.name = "caf\xc3\xa9";
  options.memory_rows = 10000;
  options.padding_keys = {0, INT64_MIN};
  options.optimizer.l1_regularization = 0.001f;
  options.optimizer.learning_rate_power = -0.4f;
  options.initializer.kind = InitializerKind::kTruncatedNormal;
  options.initializer.stddev = 0.3f;
  const auto table = MakeTable(options);
  Train(table.get(), 300, TestSeed());
  const auto saved = SaveTable(*table, dir / "t", 9);
  ASSERT_TRUE(saved.ok()) << saved.status().message();
  EXPECT_EQ(saved.value().uid.size(), 32u);

  const auto info = ReadCheckpointInfo(dir / "t");
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info.value().uid, saved.value().uid);
  EXPECT_EQ(info.value().step, 9);
  EXPECT_EQ(info.value().rows, table->size());
  EXPECT_EQ(info.value().optimizer_step, 3);
  EXPECT_EQ(info.value().options, table->options());

  const auto loaded = LoadTable(dir / "t", 8);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value()->options(), table->options());
}

TEST(Checkpoint, AnEmptyTableRoundTrips) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kSgd));
  ASSERT_TRUE(SaveTable(*table, dir / "t", 0).ok());
  EXPECT_EQ(Files(dir / "t"), std::vector<std::string>{"manifest"});
  const auto target = MakeTable(Options(OptimizerKind::kSgd));
  Train(target.get(), 100, 1);
  ASSERT_TRUE(RestoreTable(target.get(), dir / "t").ok());
  EXPECT_EQ(target->size(), 0);
}

TEST(Checkpoint, WideRowsTakeAsManyBlocksAsTheyNeed) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kLazyAdam, 2, kMaxDim));
  Train(table.get(), 40, TestSeed());
  ASSERT_TRUE(SaveTable(*table, dir / "t", 0).ok());
  const auto loaded = LoadTable(dir / "t", 4);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(ContentsOf(*loaded.value()), ContentsOf(*table));
}

TEST(Checkpoint, ASaveReplacesTheOneBefore) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
  Train(table.get(), 100, 1);
  const auto first = SaveTable(*table, dir / "t", 1);
  ASSERT_TRUE(first.ok());
  Train(table.get(), 200, 2);
  const auto second = SaveTable(*table, dir / "t/", 2);
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_NE(first.value().uid, second.value().uid);
  EXPECT_EQ(Files(dir.path()), std::vector<std::string>{"t"});
  EXPECT_EQ(ContentsOf(*LoadTable(dir / "t").value()), ContentsOf(*table));
}

TEST(Checkpoint, ASaveDoesNotReplaceOtherThings) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kSgd));
  ASSERT_TRUE(Env::Default()->CreateDir(dir / "home").ok());
  WriteFile(dir / "home/thesis.tex", "precious");
  const auto refused = SaveTable(*table, dir / "home", 0);
  EXPECT_EQ(refused.status().code(), StatusCode::kAlreadyExists);
  EXPECT_NE(refused.status().message().find("thesis.tex"), std::string::npos);
  EXPECT_EQ(ReadFile(dir / "home/thesis.tex"), "precious");

  WriteFile(dir / "file", "precious");
  EXPECT_FALSE(SaveTable(*table, dir / "file", 0).ok());
  EXPECT_EQ(ReadFile(dir / "file"), "precious");
  for (const char* path : {"", "/", ".", "..", "a/.."}) {
    EXPECT_EQ(SaveTable(*table, path, 0).status().code(), StatusCode::kInvalidArgument) << path;
  }
  EXPECT_EQ(SaveTable(*table, dir / "no/parent", 0).status().code(), StatusCode::kNotFound);
}

TEST(Checkpoint, AMismatchNamesBothSides) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
  Train(table.get(), 100, 1);
  ASSERT_TRUE(SaveTable(*table, dir / "t", 0).ok());
  const auto expect = [&](const TableOptions& options, StatusCode code, const char* a,
                          const char* b) {
    const auto target = MakeTable(options);
    Train(target.get(), 10, 3);
    const Unchanged unchanged(*target);
    const auto result = RestoreTable(target.get(), dir / "t");
    EXPECT_EQ(result.status().code(), code) << result.status().message();
    EXPECT_NE(result.status().message().find(a), std::string::npos) << result.status().message();
    EXPECT_NE(result.status().message().find(b), std::string::npos) << result.status().message();
    unchanged.CheckRows();
  };
  expect(Options(OptimizerKind::kAdagrad, 4, 7), StatusCode::kInvalidArgument, "dim 7", "dim 3");
  expect(Options(OptimizerKind::kLazyAdam), StatusCode::kFailedPrecondition, "LazyAdam", "Adagrad");
  TableOptions small = Options(OptimizerKind::kAdagrad);
  small.memory_rows = 99;
  expect(small, StatusCode::kResourceExhausted, "99", "100");
  small.memory_rows = 100;
  const auto fits = MakeTable(small);
  EXPECT_TRUE(RestoreTable(fits.get(), dir / "t").ok());
  EXPECT_EQ(fits->size(), 100);
}

TEST(Checkpoint, RowsWithoutSlotsGetFreshOnes) {
  const TempDir dir;
  const auto plain = MakeTable(Options(OptimizerKind::kNone));
  Train(plain.get(), 100, 1);
  ASSERT_TRUE(SaveTable(*plain, dir / "t", 0).ok());
  const auto target = MakeTable(Options(OptimizerKind::kAdagrad));
  const auto restored = RestoreTable(target.get(), dir / "t");
  ASSERT_TRUE(restored.ok()) << restored.status().message();
  // As if the optimizer had been bound to the rows where they were.
  ASSERT_TRUE(plain->BindOptimizer(target->options().optimizer).ok());
  EXPECT_EQ(ContentsOf(*target), ContentsOf(*plain));
}

TEST(Checkpoint, ATableWithoutOptimizerKeepsTheSavedSlots) {
  const TempDir dir;
  const auto trained = MakeTable(Options(OptimizerKind::kFtrl));
  Train(trained.get(), 100, 1);
  ASSERT_TRUE(SaveTable(*trained, dir / "t", 0).ok());
  const auto target = MakeTable(Options(OptimizerKind::kNone));
  const auto restored = RestoreTable(target.get(), dir / "t");
  ASSERT_TRUE(restored.ok()) << restored.status().message();
  EXPECT_EQ(ContentsOf(*target), ContentsOf(*trained));
  EXPECT_EQ(target->options().optimizer, trained->options().optimizer);
}

TEST(Checkpoint, AbsentOnesAreNotFound) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kSgd));
  EXPECT_EQ(RestoreTable(table.get(), dir / "no").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(LoadTable(dir.path()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadCheckpointInfo(dir / "no").status().code(), StatusCode::kNotFound);
}

TEST(Checkpoint, AClosedTableIsRefused) {
  const TempDir dir;
  const auto table = MakeTable(Options(OptimizerKind::kSgd));
  ASSERT_TRUE(SaveTable(*table, dir / "t", 0).ok());
  table->Close();
  EXPECT_EQ(SaveTable(*table, dir / "u", 0).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(RestoreTable(table.get(), dir / "t").status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Files(dir.path()), std::vector<std::string>{"t"});
}

}  // namespace
}  // namespace mxrec::testing
