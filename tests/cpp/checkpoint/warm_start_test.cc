// Rows of other models in a table, compared with a map that follows the rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_fixture.h"
#include "env/temp_dir.h"
#include "kernels/half_bits.h"
#include "mxrec/checkpoint.h"

namespace mxrec::testing {
namespace {

constexpr auto kKeep = WarmStartSlots::kKeep;
constexpr auto kReset = WarmStartSlots::kReset;
constexpr auto kReplace = WarmStartMode::kReplace;
constexpr auto kMerge = WarmStartMode::kMerge;

float InitialSlot(OptimizerKind kind, int slot) {
  const bool accumulates = kind == OptimizerKind::kAdagrad || kind == OptimizerKind::kFtrl;
  return accumulates && slot == 0 ? Options(kind).optimizer.initial_accumulator_value : 0.0f;
}

// A row as it comes from a source: unused, with fresh slots of `kind` where its own are not kept.
Contents::mapped_type Brought(const Contents::mapped_type& row, int dim, OptimizerKind kind,
                              bool keeps) {
  auto bits = std::get<2>(row);
  if (!keeps) {
    bits.resize(static_cast<size_t>(dim));
    for (int slot = 0; slot < SlotCount(kind); ++slot) {
      bits.insert(bits.end(), dim, std::bit_cast<uint32_t>(InitialSlot(kind, slot)));
    }
  }
  return {0, 0, bits};
}

void Merge(const Contents& source, int dim, OptimizerKind kind, bool keeps, Contents* into) {
  for (const auto& [key, row] : source) {
    auto brought = Brought(row, dim, kind, keeps);
    if (const auto found = into->find(key); found != into->end()) {
      std::get<0>(brought) = std::get<0>(found->second);
      std::get<1>(brought) = std::get<1>(found->second);
    }
    (*into)[key] = brought;
  }
}

// Trains keys in [first, first + n), so that sources overlap in part.
void TrainRange(Table* table, int64_t first, int n, uint64_t seed, int64_t time = 0) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> keys;
  for (int64_t key = first; key < first + n; ++key) keys.push_back(key);
  std::vector<float> rows(keys.size() * table->dim());
  const std::vector<int64_t> times(time > 0 ? 1 : 0, time);
  ASSERT_TRUE(table->LookupOrInsert(keys, rows.data(), {.timestamps = times}).ok());
  if (table->options().optimizer.kind == OptimizerKind::kNone) return;
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (float& grad : rows) grad = uniform(random);
  ApplyResult result;
  ASSERT_TRUE(table->ApplyGradients(keys, rows.data(), std::nullopt, &result).ok());
}

TEST(WarmStart, SequencesOfSourcesFollowTheRules) {
  const TempDir dir;
  std::mt19937_64 random(TestSeed());
  const OptimizerKind kinds[] = {OptimizerKind::kNone, OptimizerKind::kSgd, OptimizerKind::kAdagrad,
                                 OptimizerKind::kLazyAdam};
  std::vector<std::shared_ptr<Table>> sources;
  for (size_t i = 0; i < 8; ++i) {
    sources.push_back(MakeTable(Options(kinds[i % 4], 1 << (random() % 5))));
    for (uint64_t step = 0; step <= random() % 4; ++step) {
      TrainRange(sources[i].get(), static_cast<int64_t>(random() % 500), 300, random());
    }
    ASSERT_TRUE(SaveTable(*sources[i], dir / std::to_string(i), 1).ok());
  }
  for (int round = 0; round < 200; ++round) {
    const OptimizerKind own = kinds[random() % 4];
    const auto table = MakeTable(Options(own, 1 << (random() % 5)));
    if (random() % 2 == 0) TrainRange(table.get(), 100, 200, random());
    Contents expected = ContentsOf(*table);
    int64_t step = table->optimizer_step();
    OptimizerKind kind = own;
    WarmStart warm_start(table);
    for (uint64_t i = 0; i <= random() % 4; ++i) {
      const size_t which = random() % sources.size();
      const WarmStartOptions options{.slots = random() % 2 == 0 ? kKeep : kReset,
                                     .mode = random() % 3 == 0 ? kReplace : kMerge};
      const OptimizerKind saved = sources[which]->options().optimizer.kind;
      const bool replaces = options.mode == kReplace;
      if (replaces && own == OptimizerKind::kNone) kind = own;
      const bool wants = options.slots == kKeep && saved != OptimizerKind::kNone;
      if (wants && kind != OptimizerKind::kNone && kind != saved) continue;  // an error, see below
      if (wants && kind == OptimizerKind::kNone) {
        kind = saved;
        for (auto& [key, row] : expected) {
          const auto with_slots = Brought(row, table->dim(), kind, false);
          std::get<2>(row) = std::get<2>(with_slots);
        }
      }
      if (replaces) {
        expected.clear();
        step = 0;
      }
      if (wants) step = std::max(step, sources[which]->optimizer_step());
      const Contents rows = ContentsOf(*sources[which]);
      Merge(rows, table->dim(), kind, wants, &expected);
      const auto added = warm_start.AddCheckpoint({dir / std::to_string(which)}, options);
      ASSERT_TRUE(added.ok()) << added.status().message();
      EXPECT_EQ(added.value(), static_cast<int64_t>(rows.size()));
    }
    ASSERT_TRUE(warm_start.Commit().ok());
    ASSERT_EQ(table->options().optimizer.kind, kind);
    ASSERT_EQ(ContentsOf(*table), expected) << "round " << round;
    ASSERT_EQ(table->optimizer_step(), step);
  }
}

TEST(WarmStart, TrainingGoesOnAsInTheSource) {
  const TempDir dir;
  const auto source = MakeTable(Options(OptimizerKind::kLazyAdam));
  Train(source.get(), 2000, TestSeed());
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());
  const auto table = MakeTable(Options(OptimizerKind::kLazyAdam, 16));
  ASSERT_TRUE(WarmStartTable(table, {dir / "s"}, {}).ok());
  Train(source.get(), 2000, TestSeed() + 1);
  Train(table.get(), 2000, TestSeed() + 1);
  const auto values = [](const Contents& contents) {
    std::map<int64_t, std::vector<uint32_t>> bits;
    for (const auto& [key, row] : contents) bits[key] = std::get<2>(row);
    return bits;
  };
  EXPECT_EQ(values(ContentsOf(*table)), values(ContentsOf(*source)));
}

TEST(WarmStart, AChainIsWhatItAmountsTo) {
  const TempDir dir;
  const auto source = MakeTable(Options(OptimizerKind::kAdagrad));
  std::vector<std::string> chain;
  std::string parent;
  for (int step = 0; step < 3; ++step) {
    TrainRange(source.get(), 30 * step, 60, 5);
    const std::vector<int64_t> gone = {30 * step, 30 * step + 1};
    ASSERT_TRUE(source->Erase(gone).ok());
    auto snapshot = source->BeginSnapshot({.parent = parent, .tracks = true}).value();
    chain.push_back(dir / std::to_string(step));
    parent = WriteSnapshot(&snapshot, chain.back(), step).value().uid;
    snapshot.End(parent, step);
  }
  const Contents rows = ContentsOf(*source);
  for (const WarmStartMode mode : {kReplace, kMerge}) {
    const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
    TrainRange(table.get(), -5, 10, 6);  // of keys that the chain erases, too
    Contents expected = mode == kMerge ? ContentsOf(*table) : Contents();
    Merge(rows, 3, OptimizerKind::kAdagrad, true, &expected);
    const auto added = WarmStartTable(table, chain, {.mode = mode});
    ASSERT_TRUE(added.ok()) << added.status().message();
    EXPECT_EQ(added.value(), static_cast<int64_t>(rows.size()));
    EXPECT_EQ(ContentsOf(*table), expected);
    EXPECT_EQ(table->optimizer_step(), source->optimizer_step());
    EXPECT_EQ(table->lineage(), "") << "these rows are of no version of this table";

    const Unchanged unchanged(*table);
    const Status alone = WarmStartTable(table, {chain[2]}, {.mode = mode}).status();
    EXPECT_EQ(alone.code(), StatusCode::kDataLoss);
    EXPECT_NE(alone.message().find("delta"), std::string::npos) << alone.message();
    unchanged.CheckRows();
  }
}

TEST(WarmStart, RowsOfAMatrixBecomeKeysFromZero) {
  const TempDir dir;
  const auto source = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(source.get(), 150'000, 100, 1);
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());
  constexpr int64_t kRows = 140'000;  // more than one block
  std::vector<float> values(kRows * 3);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  for (const WarmStartMode mode : {kReplace, kMerge}) {
    const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
    WarmStart warm_start(table);
    ASSERT_TRUE(warm_start.AddCheckpoint({dir / "s"}, {}).ok());
    const auto added = warm_start.AddMatrix(values.data(), kRows, {.mode = mode});
    ASSERT_EQ(added.value(), kRows);
    ASSERT_TRUE(warm_start.Commit().ok());
    EXPECT_EQ(table->size(), kRows + (mode == kMerge ? 100 : 0));
    const Contents contents = ContentsOf(*table);
    for (const int64_t key : {int64_t{0}, int64_t{65'536}, kRows - 1}) {
      std::vector<uint32_t> bits;
      for (int c = 0; c < 3; ++c) {
        bits.push_back(std::bit_cast<uint32_t>(static_cast<float>(key * 3 + c)));
      }
      bits.insert(bits.end(), 3, std::bit_cast<uint32_t>(InitialSlot(OptimizerKind::kAdagrad, 0)));
      EXPECT_EQ(contents.at(key), std::make_tuple(0u, 0u, bits)) << key;
    }
  }
}

TEST(WarmStart, ValuesAreRoundedToTheTablesType) {
  const TempDir dir;
  const auto source = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(source.get(), 0, 500, TestSeed());
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());
  TableOptions options = Options(OptimizerKind::kAdagrad);
  options.value_type = ValueType::kBfloat16;
  const auto table = MakeTable(options);
  ASSERT_TRUE(WarmStartTable(table, {dir / "s"}, {}).ok());
  Contents expected;
  Merge(ContentsOf(*source), 3, OptimizerKind::kAdagrad, true, &expected);
  for (auto& [key, row] : expected) {
    for (int c = 0; c < 3; ++c) {
      uint32_t& bits = std::get<2>(row)[c];
      bits = std::bit_cast<uint32_t>(
          kernels::Bfloat16::ToFloat(kernels::Bfloat16::Nearest(std::bit_cast<float>(bits))));
    }
  }
  EXPECT_EQ(ContentsOf(*table), expected);

  ASSERT_TRUE(SaveTable(*table, dir / "half", 1).ok());
  ASSERT_TRUE(WarmStartTable(source, {dir / "half"}, {}).ok());
  EXPECT_EQ(ContentsOf(*source), expected);
}

// --- Admission and eviction ---------------------------------------------------------------------

TEST(WarmStart, CountsAndTimesBeginAnew) {
  const TempDir dir;
  TableOptions options = Options(OptimizerKind::kAdagrad);
  options.admission.threshold = 2;
  options.eviction.max_age = 10;
  const auto source = MakeTable(options);
  for (int time = 5; time < 8; ++time) TrainRange(source.get(), 0, 100, 1, time);
  TrainRange(source.get(), 100, 50, 1, 8);  // counted once, no rows
  ASSERT_EQ(source->size(), 100);
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());

  const auto table = MakeTable(options);
  ASSERT_TRUE(table->SetThreshold(3).ok());
  ASSERT_TRUE(WarmStartTable(table, {dir / "s"}, {}).ok());
  EXPECT_EQ(table->size(), 100);
  const std::vector<int64_t> keys = {0, 120};
  std::vector<int64_t> counts(2);
  ASSERT_TRUE(table->Counts(keys, counts.data()).ok());
  EXPECT_EQ(counts, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(table->Stats().admission_threshold, 3) << "the threshold set before stays";
  EXPECT_EQ(table->Stats().latest_time, 0);

  // Rows that training has not used yet have no age, whatever the times of this model.
  TrainRange(table.get(), 0, 10, 1, 1'000'000);
  EXPECT_EQ(table->Evict(1'000'005, std::nullopt).value(), 0);
  EXPECT_EQ(table->Evict(1'000'020, std::nullopt).value(), 10);
  EXPECT_EQ(table->size(), 90);
}

TEST(WarmStart, AMergeKeepsTheTablesOwnCountsAndTimes) {
  const TempDir dir;
  TableOptions options = Options(OptimizerKind::kAdagrad);
  const auto source = MakeTable(options);
  TrainRange(source.get(), 0, 100, 1, 5);
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());
  options.admission.threshold = 3;
  const auto table = MakeTable(options);
  for (int i = 0; i < 4; ++i) TrainRange(table.get(), 50, 40, 1, 90);
  TrainRange(table.get(), 0, 20, 1, 91);   // counts that rows of the source will take over
  TrainRange(table.get(), 500, 5, 1, 92);  // counts that stay
  ASSERT_TRUE(WarmStartTable(table, {dir / "s"}, {.mode = kMerge}).ok());
  const std::vector<int64_t> keys = {0, 30, 60, 502};
  std::vector<int64_t> counts(4);
  ASSERT_TRUE(table->Counts(keys, counts.data()).ok());
  EXPECT_EQ(counts, (std::vector<int64_t>{1, 0, 4, 1}));
  const Contents contents = ContentsOf(*table);
  EXPECT_EQ(contents.size(), 100u);
  EXPECT_EQ(std::get<1>(contents.at(0)), 91u);
  EXPECT_EQ(std::get<1>(contents.at(30)), 0u);
  EXPECT_EQ(std::get<1>(contents.at(60)), 90u);
  EXPECT_EQ(std::get<2>(contents.at(60)), std::get<2>(ContentsOf(*source).at(60)));
  EXPECT_EQ(table->Stats().latest_time, 92);
  ASSERT_TRUE(SaveTable(*table, dir / "again", 1).ok());
  EXPECT_TRUE(LoadTable(dir / "again").ok());
}

// --- Errors -------------------------------------------------------------------------------------

void ExpectError(const Status& status, StatusCode code, const std::vector<std::string>& parts) {
  EXPECT_EQ(status.code(), code) << status.message();
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  }
}

TEST(WarmStart, AnErrorLeavesTheTableAsItWas) {
  const TempDir dir;
  const auto adagrad = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(adagrad.get(), 0, 100, 1);
  ASSERT_TRUE(SaveTable(*adagrad, dir / "s", 1).ok());
  const auto wide = MakeTable(Options(OptimizerKind::kAdagrad, 4, 5));
  TrainRange(wide.get(), 0, 10, 1);
  ASSERT_TRUE(SaveTable(*wide, dir / "wide", 1).ok());
  const auto adam = MakeTable(Options(OptimizerKind::kLazyAdam));
  TrainRange(adam.get(), -10, 20, 1);
  ASSERT_TRUE(SaveTable(*adam, dir / "adam", 1).ok());
  const auto far = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(far.get(), (int64_t{1} << 31) - 5, 10, 1);
  ASSERT_TRUE(SaveTable(*far, dir / "far", 1).ok());
  std::filesystem::copy(dir / "s", dir / "damaged");
  std::string bytes = ReadFile(dir / "damaged/data-00000");
  bytes[bytes.size() / 2] ^= 1;
  WriteFile(dir / "damaged/data-00000", bytes);

  TableOptions options = Options(OptimizerKind::kAdagrad);
  options.memory_rows = 120;
  const auto table = MakeTable(options);
  TrainRange(table.get(), 80, 50, 1);
  const Unchanged unchanged(*table);
  const auto error = [&](const char* source, const WarmStartOptions& with) {
    WarmStart warm_start(table);
    EXPECT_TRUE(warm_start.AddMatrix(nullptr, 0, {.mode = kMerge}).ok());
    const Status status = warm_start.AddCheckpoint({dir / source}, with).status();
    ExpectError(warm_start.Commit(), StatusCode::kFailedPrecondition, {"failed before"});
    unchanged.CheckRows();
    return status;
  };
  ExpectError(error("none", {}), StatusCode::kNotFound, {dir / "none"});
  ExpectError(error("wide", {}), StatusCode::kInvalidArgument, {"dim 3", dir / "wide", "dim 5"});
  for (const WarmStartMode mode : {kReplace, kMerge}) {
    ExpectError(error("adam", {.mode = mode}), StatusCode::kFailedPrecondition,
                {"slots of Adagrad", "slots of LazyAdam", "reset"});
    ExpectError(error("damaged", {.mode = mode}), StatusCode::kDataLoss, {"damaged at byte"});
    ExpectError(error("far", {.mode = mode, .int32_keys = true}), StatusCode::kInvalidArgument,
                {"int32", "2147483648"});
  }
  ExpectError(error("s", {.mode = kMerge}), StatusCode::kResourceExhausted, {"120"});
  options.memory_rows = 60;
  const auto small = MakeTable(options);
  ExpectError(WarmStartTable(small, {dir / "s"}, {}).status(), StatusCode::kResourceExhausted,
              {"60", "100", "memory_rows"});
  // A negative key is an int32; one at the end of the range, too.
  EXPECT_TRUE(WarmStartTable(table, {dir / "adam"}, {.slots = kReset, .int32_keys = true}).ok());
  table->Close();
  ExpectError(WarmStartTable(table, {dir / "s"}, {}).status(), StatusCode::kFailedPrecondition,
              {"closed"});
}

TEST(WarmStart, SourcesOfDifferentOptimizersDoNotMixInATableWithout) {
  const TempDir dir;
  for (const OptimizerKind kind : {OptimizerKind::kAdagrad, OptimizerKind::kMomentum}) {
    const auto source = MakeTable(Options(kind));
    TrainRange(source.get(), 0, 10, 1);
    ASSERT_TRUE(SaveTable(*source, dir / OptimizerName(kind), 1).ok());
  }
  const auto table = MakeTable(Options(OptimizerKind::kNone));
  WarmStart mixed(table);
  ASSERT_TRUE(mixed.AddCheckpoint({dir / "Adagrad"}, {}).ok());
  ExpectError(mixed.AddCheckpoint({dir / "Momentum"}, {.mode = kMerge}).status(),
              StatusCode::kFailedPrecondition, {"Adagrad", "Momentum"});
  WarmStart one(table);
  ASSERT_TRUE(one.AddCheckpoint({dir / "Adagrad"}, {}).ok());
  ASSERT_TRUE(one.AddCheckpoint({dir / "Momentum"}, {}).ok());  // instead of all before
  ASSERT_TRUE(one.Commit().ok());
  EXPECT_EQ(table->options().optimizer.kind, OptimizerKind::kMomentum);
}

TEST(WarmStart, AMergeDoesNotLoseWhatTrainingDidMeanwhile) {
  const TempDir dir;
  const auto source = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(source.get(), 0, 100, 1);
  ASSERT_TRUE(SaveTable(*source, dir / "s", 1).ok());
  const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
  TrainRange(table.get(), 0, 10, 2);
  WarmStart warm_start(table);
  ASSERT_TRUE(warm_start.AddCheckpoint({dir / "s"}, {.mode = kMerge}).ok());
  TrainRange(table.get(), 200, 10, 3);
  const Unchanged unchanged(*table);
  ExpectError(warm_start.Commit(), StatusCode::kFailedPrecondition, {"changed"});
  unchanged.CheckRows();
}

}  // namespace
}  // namespace mxrec::testing
