// A snapshot is one instant, whatever happens while it is read; a delta on the version before is
// the same as the version in full.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "checkpoint/segment_part.h"
#include "env/env.h"
#include "env/temp_dir.h"
#include "mxrec/checkpoint.h"
#include "optimizers/random_seed.h"
#include "table/random_history.h"
#include "table/table_contents.h"

namespace mxrec {
namespace {

using testing::Contents;
using testing::ContentsOf;
using testing::RandomHistory;

struct Read {
  Contents contents;
  std::vector<int64_t> gone;
};

// Takes the files of the SSD tier as a checkpoint does, and then changes the table. Returns how
// many rows lie in them.
template <class Between>
int64_t ReadSegments(Snapshot* snapshot, Between&& between, Contents* contents) {
  const testing::TempDir dir;
  const auto path = [&](size_t i) { return dir / checkpoint::SegmentFile(i); };
  std::vector<SnapshotSegment> segments;
  const Status linked = snapshot->LinkSegments(
      [&](const std::string& file, size_t number) {
        return Env::Default()->Link(file, path(number));
      },
      &segments);
  EXPECT_TRUE(linked.ok()) << linked.message();
  between();
  int64_t rows = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const SnapshotSegment& segment = segments[i];
    const auto reader = checkpoint::SegmentReader::Open(
        Env::Default(), path(i), snapshot->options(),
        {segment.bytes, segment.records, static_cast<uint64_t>(segment.rows), segment.run,
         segment.id},
        &segment.bits);
    EXPECT_TRUE(reader.ok()) << reader.status().message();
    if (!reader.ok()) break;
    RowBlock block;
    do {
      const Status status = reader.value()->Next(&block);
      EXPECT_TRUE(status.ok()) << status.message();
      if (!status.ok()) break;
      EXPECT_EQ(contents->AddRows(block), 0) << "a row was passed on twice";
      rows += static_cast<int64_t>(block.size());
    } while (block.size() > 0);
  }
  return rows;
}

// Reads it to the end, with `between` after every block.
template <class Between>
Read ReadAll(Snapshot* snapshot, bool has_counts, int64_t max_rows, Between&& between) {
  Read read;
  RowBlock block;
  for (;;) {
    const Status status = snapshot->Scan(max_rows, &block);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok() || block.size() == 0) break;
    EXPECT_EQ(read.contents.AddRows(block), 0) << "a row was passed on twice";
    between();
  }
  for (; has_counts;) {
    EXPECT_TRUE(snapshot->ScanCounts(max_rows, &block).ok());
    if (block.size() == 0) break;
    EXPECT_EQ(read.contents.AddCounts(block), 0) << "a count was passed on twice";
    between();
  }
  EXPECT_TRUE(snapshot->Gone(&read.gone).ok());
  return read;
}

// Versions of one table, full and delta, some given up, read while random things happen. links:
// files of the SSD tier are taken as they are; rows are so wide that few fill one. Returns how many
// rows were passed on so.
int64_t RunHistory(uint64_t seed, bool tiered, bool links = false) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  RandomHistory history(seed, tiered, links ? 512 : 1);
  int64_t linked = 0;
  Table& table = history.table();
  Contents version;  // as replayed from what was read
  for (int i = 0; i < 8 && !::testing::Test::HasFailure(); ++i) {
    for (int step = history.Draw(20); step > 0; --step) history.Step();
    for (int step = links ? 5 : 0; step > 0; --step) history.TrainColdRows();
    const Contents then = ContentsOf(table);
    const bool delta = !table.lineage().empty() && history.Draw(4) != 0;
    SnapshotOptions wanted{.parent = delta ? table.lineage() : "", .tracks = history.Draw(5) != 0};
    if (history.Draw(3) == 0) wanted.image_bytes = 256;
    // With so little room a change would wait for the reader: for ever, on the same thread.
    const bool may_change = wanted.image_bytes > 256;
    auto snapshot = table.BeginSnapshot(wanted);
    EXPECT_TRUE(snapshot.ok()) << snapshot.status().message();
    if (!snapshot.ok()) return linked;
    const bool early = history.Draw(8) == 0;
    if (may_change && history.Draw(2) == 0) history.Step();
    if (early) {
      snapshot.value().End({});
      continue;
    }
    Contents in_segments;
    if (links) {
      const auto change = [&] {
        for (int step = may_change ? history.Draw(4) : 0; step > 0; --step) history.Step();
      };
      linked += ReadSegments(&snapshot.value(), change, &in_segments);
    }
    Read read =
        ReadAll(&snapshot.value(), history.options().admission.on(), 1 + history.Draw(300), [&] {
          if (may_change && history.Draw(3) != 0) history.Step();
        });
    for (const auto& [key, row] : in_segments.rows) {
      EXPECT_TRUE(read.contents.rows.emplace(key, row).second) << "a row was passed on twice";
    }
    const bool saved = history.Draw(4) != 0;
    if (!delta) {
      EXPECT_EQ(read.contents.rows.size(), then.rows.size());
      EXPECT_EQ(read.contents, then);
    } else {
      Contents replayed = version;
      replayed.Apply(read.gone, read.contents, history.sketch());
      EXPECT_EQ(replayed.rows.size(), then.rows.size());
      EXPECT_EQ(replayed, then);
    }
    const std::string uid(32, static_cast<char>('a' + i));
    const std::string before = table.lineage();
    snapshot.value().End(saved ? uid : "");
    if (saved && wanted.tracks) {
      version = then;
      EXPECT_EQ(table.lineage(), uid);
    } else {
      EXPECT_EQ(table.lineage(), before);
    }
  }
  return linked;
}

TEST(TableSnapshotTest, IsOneInstantAndDeltasAddUp) {
  MXREC_TRACE_SEED();
  for (uint64_t seed = 0; seed < 400 && !HasFailure(); ++seed) RunHistory(seed, false);
  for (uint64_t i = 0; i < 100 && !HasFailure(); ++i) RunHistory(testing::TestSeed() + i, false);
}

// Rows move between memory and SSD while the snapshot is read. MXREC_TEST_HISTORIES: how many.
TEST(TableSnapshotTest, IsOneInstantWhileRowsMoveBetweenTiers) {
  MXREC_TRACE_SEED();
  const uint64_t histories = testing::Histories(60);
  for (uint64_t seed = 0; seed < histories && !HasFailure(); ++seed) RunHistory(seed, true);
  for (uint64_t i = 0; i < histories / 4 && !HasFailure(); ++i) {
    RunHistory(testing::TestSeed() + i, true);
  }
}

TEST(TableSnapshotTest, IsOneInstantWhereFilesAreTakenAsTheyAre) {
  MXREC_TRACE_SEED();
  const uint64_t histories = testing::Histories(60) / 4;
  int64_t linked = 0;
  for (uint64_t seed = 0; seed < histories && !HasFailure(); ++seed) {
    linked += RunHistory(seed, true, true);
  }
  for (uint64_t i = 0; i < histories / 4 && !HasFailure(); ++i) {
    linked += RunHistory(testing::TestSeed() + i, true, true);
  }
  EXPECT_GT(linked, 1000);
}

std::shared_ptr<Table> SmallTable(int64_t rows) {
  TableOptions options;
  options.name = "small";
  options.dim = 4;
  options.optimizer.kind = OptimizerKind::kSgd;
  auto table = Table::Create(options).value();
  std::vector<int64_t> keys(static_cast<size_t>(rows));
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int64_t>(i);
  std::vector<float> out(keys.size() * 4);
  EXPECT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
  return table;
}

void Use(Table* table, int64_t first, int64_t last) {
  std::vector<int64_t> keys;
  for (int64_t key = first; key < last; ++key) keys.push_back(key);
  std::vector<float> out(keys.size() * 4);
  ASSERT_TRUE(table->LookupOrInsert(keys, out.data()).ok());
}

std::set<int64_t> KeysOf(Snapshot* snapshot) {
  std::set<int64_t> keys;
  for (const auto& [key, row] : ReadAll(snapshot, false, 100, [] {}).contents.rows) {
    keys.insert(key);
  }
  return keys;
}

TEST(TableSnapshotTest, RarelyUsedRowsWaitForALaterDelta) {
  const auto table = SmallTable(10);
  const std::string first(32, '1'), second(32, '2');
  auto full = table->BeginSnapshot({.tracks = true, .recent_threshold = 2}).value();
  EXPECT_EQ(KeysOf(&full).size(), 10u);
  full.End(first);
  Use(table.get(), 0, 4);
  Use(table.get(), 0, 2);
  auto delta =
      table->BeginSnapshot({.parent = first, .tracks = true, .recent_threshold = 2}).value();
  EXPECT_EQ(KeysOf(&delta), (std::set<int64_t>{0, 1}));
  EXPECT_EQ(delta.left_out(), 2);
  delta.End(second);
  // 2 is used twice in this period; 3 only once, but is in the delta that leaves nothing out.
  Use(table.get(), 2, 4);
  Use(table.get(), 2, 3);
  auto next =
      table->BeginSnapshot({.parent = second, .tracks = true, .recent_threshold = 2}).value();
  EXPECT_EQ(KeysOf(&next), (std::set<int64_t>{2}));
  next.End({});
  auto all = table->BeginSnapshot({.parent = second, .tracks = true}).value();
  EXPECT_EQ(KeysOf(&all), (std::set<int64_t>{2, 3}));
  all.End({});
}

TEST(TableSnapshotTest, WithoutAnyUseInThePeriodAllChangesAreRare) {
  const auto table = SmallTable(10);
  const std::string first(32, '1');
  auto full = table->BeginSnapshot({.tracks = true, .recent_threshold = 1}).value();
  EXPECT_EQ(KeysOf(&full).size(), 10u);
  full.End(first);
  const std::vector<int64_t> keys = {1, 2};
  const std::vector<float> values(8, 1.0f);
  ASSERT_TRUE(table->Assign(keys, values.data()).ok());
  auto delta = table->BeginSnapshot({.parent = first, .recent_threshold = 1}).value();
  EXPECT_TRUE(KeysOf(&delta).empty());
  EXPECT_EQ(delta.left_out(), 2);
}

TEST(TableSnapshotTest, ASaveThatFailsLosesNoUses) {
  const auto table = SmallTable(10);
  const std::string first(32, '1');
  auto full = table->BeginSnapshot({.tracks = true, .recent_threshold = 2}).value();
  full.End(first);
  Use(table.get(), 0, 2);
  Use(table.get(), 0, 2);
  auto failed = table->BeginSnapshot({.parent = first, .tracks = true}).value();
  Use(table.get(), 5, 5'000);  // more slots than before
  failed.End({});
  auto delta = table->BeginSnapshot({.parent = first, .recent_threshold = 2}).value();
  EXPECT_EQ(KeysOf(&delta), (std::set<int64_t>{0, 1}));
}

TEST(TableSnapshotTest, DeltasGoOnWhenEpochsHaveRunOut) {
  const auto table = SmallTable(10);
  std::string parent;
  const auto save = [&](int i) {
    auto snapshot = table->BeginSnapshot({.parent = parent, .tracks = true}).value();
    const std::set<int64_t> keys = KeysOf(&snapshot);
    parent = std::to_string(i) + std::string(32, '-');
    parent.resize(32);
    snapshot.End(parent);
    return keys;
  };
  EXPECT_EQ(save(0).size(), 10u);
  for (int i = 1; i < 70'000 && !HasFailure(); ++i) {  // they run out twice
    const int64_t changed = i % 3 == 0 ? 20 + i % 7 : i % 10;
    Use(table.get(), changed, changed + 1);
    ASSERT_EQ(save(i), std::set<int64_t>{changed}) << "version " << i;
  }
}

TEST(TableSnapshotTest, ADeltaNeedsItsParent) {
  const auto table = SmallTable(10);
  const auto refused = table->BeginSnapshot({.parent = std::string(32, '7')});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.status().message().find("Save it in full first"), std::string::npos);
  auto full = table->BeginSnapshot({.tracks = true}).value();
  full.End(std::string(32, '1'));
  EXPECT_EQ(table->lineage(), std::string(32, '1'));
  OptimizerOptions other;
  other.kind = OptimizerKind::kSgd;
  other.learning_rate = 0.5f;
  EXPECT_TRUE(table->BindOptimizer(other).ok());
  EXPECT_EQ(table->lineage(), std::string(32, '1')) << "the slots are the same";
  AdmissionOptions admission;
  admission.threshold = 2;
  EXPECT_TRUE(table->ConfigureAdmission(admission).ok());
  EXPECT_EQ(table->lineage(), "") << "the version had no counts";
}

TEST(TableSnapshotTest, TrainingWaitsForTheReaderBeyondTheLimitOfImages) {
  const auto table = SmallTable(20'000);
  auto snapshot = table->BeginSnapshot({.image_bytes = 64 << 10}).value();
  const Contents then = ContentsOf(*table);
  std::atomic<bool> trained{false};
  std::thread trainer([&] {
    for (int i = 0; i < 200; ++i) Use(table.get(), i * 100, (i + 1) * 100);
    trained = true;
  });
  while (table->Stats().bytes_save_images < (64 << 10)) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(trained);
  // One batch may go beyond.
  EXPECT_LE(table->Stats().bytes_save_images, (64 << 10) + 100 * (16 + 80));
  EXPECT_EQ(ReadAll(&snapshot, false, 50, [] {}).contents, then);
  snapshot.End({});
  trainer.join();
  EXPECT_TRUE(trained);
  EXPECT_EQ(table->Stats().bytes_save_images, 0);
}

TEST(TableSnapshotTest, SavesAndTrainingOnManyThreads) {
  const auto table = SmallTable(50'000);
  std::atomic<bool> stop{false};
  std::vector<std::thread> trainers;
  for (int t = 0; t < 2; ++t) {
    trainers.emplace_back([&, t] {
      std::vector<int64_t> keys(2'000);
      std::vector<float> grads(keys.size() * 4, 0.25f);
      for (int64_t round = t; !stop; ++round) {
        for (size_t i = 0; i < keys.size(); ++i) {
          keys[i] = (round * 7919 + static_cast<int64_t>(i) * 31) % 60'000;
        }
        UniqueKeys unique;
        EXPECT_TRUE(table->Resolve(keys, ResolveMode::kInsert, nullptr, &unique).ok());
        ApplyResult result;
        EXPECT_TRUE(table
                        ->ApplyToAddresses(unique.addresses, grads.data(), 0.1f,
                                           StaleAddress::kFallBack, &result)
                        .ok());
        if (round % 5 != 0) continue;
        EXPECT_TRUE(table->Erase({keys.data(), 10}).ok());
      }
    });
  }
  std::string parent;
  std::set<int64_t> known;
  for (int i = 0; i < 6; ++i) {
    auto snapshot = table->BeginSnapshot({.parent = parent, .tracks = true}).value();
    const Read read = ReadAll(&snapshot, false, 500, [] {});
    for (const int64_t key : read.gone) known.erase(key);
    for (const auto& [key, row] : read.contents.rows) known.insert(key);
    parent = std::string(32, static_cast<char>('a' + i));
    snapshot.End(parent);
  }
  stop = true;
  for (std::thread& trainer : trainers) trainer.join();
  auto last = table->BeginSnapshot({.parent = parent}).value();
  const Read read = ReadAll(&last, false, 500, [] {});
  for (const int64_t key : read.gone) known.erase(key);
  for (const auto& [key, row] : read.contents.rows) known.insert(key);
  last.End({});
  std::set<int64_t> there;
  for (const auto& [key, row] : ContentsOf(*table).rows) there.insert(key);
  EXPECT_EQ(known, there);
}

}  // namespace
}  // namespace mxrec
