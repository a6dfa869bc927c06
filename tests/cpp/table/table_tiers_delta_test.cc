// Deltas that leave rarely used rows out: which rows those are does not depend on their tiers.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "index/key_hash.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "optimizers/random_seed.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

constexpr int kDim = 4;

std::shared_ptr<Table> MakeTable(bool tiered) {
  TableOptions options;
  options.name = "deltas";
  options.dim = kDim;
  options.num_shards = 2;
  options.memory_rows = 5000;
  options.initializer.kind = InitializerKind::kUniform;
  return Table::Create(tiered ? testing::Tiered(options, 10) : options).value();
}

void Use(Table* table, const std::vector<int64_t>& keys) {
  std::vector<float> out(keys.size() * kDim);
  const Status status = table->LookupOrInsert(keys, out.data());
  ASSERT_TRUE(status.ok()) << status.message();
}

// What a save writes, in part before and in part after `meanwhile` has changed the table.
struct Saved {
  std::set<int64_t> rows, gone;
  int64_t left_out = 0;
  bool operator==(const Saved&) const = default;
};

template <class Meanwhile>
Saved Save(Table* table, const SnapshotOptions& options, const std::string& uid,
           Meanwhile&& meanwhile) {
  Saved saved;
  Snapshot snapshot = table->BeginSnapshot(options).value();
  meanwhile(table);
  RowBlock block;
  for (bool first = true;; first = false) {
    EXPECT_TRUE(snapshot.Scan(50, &block).ok());
    if (block.size() == 0) break;
    for (const int64_t key : block.keys) EXPECT_TRUE(saved.rows.insert(key).second) << key;
    if (first) meanwhile(table);
  }
  std::vector<int64_t> gone;
  EXPECT_TRUE(snapshot.Gone(&gone).ok());
  saved.gone.insert(gone.begin(), gone.end());
  saved.left_out = snapshot.left_out();
  snapshot.End(uid);
  return saved;
}

void RunHistory(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  const auto draw = [&](uint64_t n) { return rng() % n; };
  const uint64_t universe = 50 + draw(600);
  const auto keys = [&](uint64_t most) {
    std::vector<int64_t> drawn(draw(most));
    for (int64_t& key : drawn)
      key = static_cast<int64_t>(HashKey(static_cast<int64_t>(draw(universe))));
    return drawn;
  };
  const std::shared_ptr<Table> tables[] = {MakeTable(false), MakeTable(true)};
  std::string parent;
  for (int period = 0; period < 12 && !::testing::Test::HasFailure(); ++period) {
    for (uint64_t batch = draw(6); batch > 0; --batch) {
      const std::vector<int64_t> used = keys(60), assigned = keys(10), erased = keys(10);
      const std::vector<float> values(assigned.size() * kDim, 1.0f);
      for (const auto& table : tables) {
        Use(table.get(), used);
        ASSERT_TRUE(table->Assign(assigned, values.data()).ok());
        ASSERT_TRUE(table->Erase(erased).ok());
      }
    }
    const bool fails = period > 0 && draw(4) == 0;
    const std::string uid =
        fails ? std::string() : std::string(32, static_cast<char>('a' + period));
    const SnapshotOptions options{
        .parent = parent, .tracks = true, .recent_threshold = 1 + static_cast<int64_t>(draw(3))};
    const std::vector<int64_t> used = keys(60), erased = keys(10);
    const auto meanwhile = [&](Table* table) {
      Use(table, used);
      ASSERT_TRUE(table->Erase(erased).ok());
    };
    const Saved expected = Save(tables[0].get(), options, uid, meanwhile);
    const Saved found = Save(tables[1].get(), options, uid, meanwhile);
    EXPECT_EQ(expected.rows, found.rows) << "period " << period;
    EXPECT_EQ(expected.gone, found.gone) << "period " << period;
    EXPECT_EQ(expected.left_out, found.left_out) << "period " << period;
    if (!fails) parent = uid;
  }
  EXPECT_GT(tables[1]->Stats().tiers->promoted, 0);
}

TEST(TableTiersDeltaTest, RareRowsAreThoseOfATableInMemory) {
  MXREC_TRACE_SEED();
  const uint64_t histories = testing::Histories(60);
  for (uint64_t seed = 0; seed < histories && !HasFailure(); ++seed) RunHistory(seed);
  for (uint64_t i = 0; i < histories / 4 && !HasFailure(); ++i) RunHistory(testing::TestSeed() + i);
}

}  // namespace
}  // namespace mxrec
