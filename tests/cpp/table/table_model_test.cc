// Random sequences of operations on Table and on ModelTable. A failure prints the seed of its
// sequence; MXREC_TEST_SEED=<seed> replays that one alone.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <limits>
#include <random>

#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/model.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

using testing::ModelTable;

class Sequence {
 public:
  Sequence(uint64_t seed, bool tiered)
      : rng_(seed), seed_(seed), options_(Options()), model_(options_) {
    // About one row in a hundred; most batches have more.
    if (tiered) options_ = testing::Tiered(options_, 1 + Draw(3));
    table_ = Table::Create(options_).value();
  }

  void Run() {
    const int operations = 10 + Draw(30);
    for (int i = 0; i < operations && !::testing::Test::HasFatalFailure(); ++i) Step();
    Compare();
  }

 private:
  int Draw(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }

  TableOptions Options() {
    TableOptions options;
    options.name = "model";
    options.dim = 1 + Draw(9);
    options.num_shards = 1 << Draw(4);
    options.seed = rng_();
    options.memory_rows = Draw(4) == 0 ? 20 + Draw(200) : 0;
    options.initializer.kind = Draw(2) ? InitializerKind::kUniform : InitializerKind::kNormal;
    options.optimizer.kind = static_cast<OptimizerKind>(1 + Draw(5));
    if (options.optimizer.kind == OptimizerKind::kMomentum) options.optimizer.momentum = 0.9f;
    if (options.optimizer.kind == OptimizerKind::kSgd) options.optimizer.weight_decay = 0.01f;
    if (Draw(2) == 0) {
      options.value_type = Draw(2) ? ValueType::kFloat16 : ValueType::kBfloat16;
      options.stochastic_rounding = Draw(2) == 0;
    }
    return options;
  }

  std::vector<int64_t> Keys() {
    // Mostly few keys often; sometimes thousands, so that segments split and threads take part.
    const size_t n = Draw(40) == 0 ? 3000 + Draw(6000) : Draw(50);
    std::vector<int64_t> keys(n);
    for (int64_t& k : keys) {
      switch (Draw(8)) {
        case 0:
          k = std::numeric_limits<int64_t>::min() + Draw(2);
          break;
        case 1:
          k = std::numeric_limits<int64_t>::max() - Draw(2);
          break;
        case 2:
          k = n > 1000 ? static_cast<int64_t>(rng_()) : -1;
          break;
        default:
          k = Draw(n > 1000 ? 100000 : 60) - 5;
      }
    }
    return keys;
  }

  std::vector<float> Floats(size_t rows) {
    std::vector<float> values(rows * static_cast<size_t>(options_.dim));
    for (float& v : values) v = static_cast<float>(Draw(2001) - 1000) / 512.0f;
    return values;
  }

  void Train() {
    const std::vector<int64_t> keys = Keys();
    std::vector<float> out(keys.size() * options_.dim);
    const bool fits = model_.Fits(keys);
    Status status;
    if (Draw(2) == 0) {
      status = table_->LookupOrInsert(keys, out.data());
    } else {
      std::vector<int32_t> inverse(keys.size());
      UniqueKeys unique;
      status = table_->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique);
      if (status.ok()) {
        std::vector<float> rows(unique.size() * options_.dim);
        ASSERT_TRUE(table_->ReadRows(unique.addresses, unique.keys, nullptr, rows.data()).ok());
        for (size_t i = 0; i < keys.size(); ++i) {
          ASSERT_EQ(unique.keys[inverse[i]], keys[i]);
          std::copy_n(&rows[inverse[i] * options_.dim], options_.dim, &out[i * options_.dim]);
        }
        ASSERT_TRUE(fits);
        model_.Train(keys);
        ASSERT_EQ(out, model_.Lookup(keys));
        if (Draw(2) == 0) ApplyByAddress(unique);
        return;
      }
    }
    ASSERT_EQ(status.ok(), fits) << status.message();
    if (!fits) {
      ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
      return;
    }
    model_.Train(keys);
    ASSERT_EQ(out, model_.Lookup(keys));
  }

  void ApplyByAddress(const UniqueKeys& unique) {
    const std::vector<float> grads = Floats(unique.size());
    ApplyResult result;
    const Status status = table_->ApplyToAddresses(unique.addresses, grads.data(), 0.05f,
                                                   StaleAddress::kReject, &result);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_EQ(result.updated, model_.Apply(unique.keys, grads, 0.05f));
  }

  void Step() {
    switch (Draw(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        Train();
        break;
      case 4:
      case 5: {
        const std::vector<int64_t> keys = Keys();
        std::vector<float> out(keys.size() * options_.dim, -1.0f);
        ASSERT_TRUE(table_->Lookup(keys, nullptr, out.data()).ok());
        ASSERT_EQ(out, model_.Lookup(keys));
        break;
      }
      case 6:
      case 7: {
        const std::vector<int64_t> keys = Keys();
        const std::vector<float> grads = Floats(keys.size());
        ApplyResult result;
        ASSERT_TRUE(table_->ApplyGradients(keys, grads.data(), 0.05f, &result).ok());
        ASSERT_EQ(result.updated, model_.Apply(keys, grads, 0.05f));
        break;
      }
      case 8: {
        const std::vector<int64_t> keys = Keys();
        const std::vector<float> values = Floats(keys.size());
        const bool fits = model_.Fits(keys);
        ASSERT_EQ(table_->Assign(keys, values.data()).ok(), fits);
        if (fits) model_.Assign(keys, values);
        break;
      }
      case 9: {
        const std::vector<int64_t> keys = Keys();
        const auto erased = table_->Erase(keys);
        ASSERT_TRUE(erased.ok());
        ASSERT_EQ(erased.value(), model_.Erase(keys));
        break;
      }
      case 10: {
        std::vector<int64_t> missing;
        const std::vector<int64_t> keys = Keys();
        ASSERT_TRUE(table_->Missing(keys, &missing).ok());
        auto contained = std::make_unique<bool[]>(keys.size());
        ASSERT_TRUE(table_->Contains(keys, contained.get()).ok());
        size_t at = 0;
        std::map<int64_t, bool> seen;
        for (size_t i = 0; i < keys.size(); ++i) {
          ASSERT_EQ(contained[i], model_.rows().contains(keys[i]));
          if (contained[i] || std::exchange(seen[keys[i]], true)) continue;
          ASSERT_LT(at, missing.size());
          ASSERT_EQ(missing[at++], keys[i]);
        }
        ASSERT_EQ(at, missing.size());
        break;
      }
      default:
        if (Draw(4) == 0) SaveAndLoad();
        Compare();
    }
  }

  void SaveAndLoad() {
    const std::string dir =
        (std::filesystem::temp_directory_path() /
         ("mxrec-model-" + std::to_string(getpid()) + "-" + std::to_string(seed_)))
            .string();
    const auto saved = SaveTable(*table_, dir, 7);
    ASSERT_TRUE(saved.ok()) << saved.status().message();
    const int how = Draw(options_.ssd_rows > 0 ? 3 : 2);
    if (how == 0) {
      auto loaded = LoadTable(dir, 1 << Draw(5));
      ASSERT_TRUE(loaded.ok()) << loaded.status().message();
      table_ = std::move(loaded).value();
    } else if (how == 2) {  // other sizes of the tiers
      TableOptions options = testing::Tiered(testing::Untiered(options_), 1 + Draw(200));
      options.num_shards = 1 << Draw(5);
      table_ = Table::Create(options).value();
      ASSERT_TRUE(RestoreTable(table_.get(), dir).ok());
    } else {
      const std::vector<int64_t> noise = {Draw(100), -7};
      std::vector<float> out(noise.size() * options_.dim);
      (void)table_->LookupOrInsert(noise, out.data()).ok();
      ASSERT_TRUE(RestoreTable(table_.get(), dir).ok());
    }
    std::filesystem::remove_all(dir);
  }

  void Compare() {
    ASSERT_EQ(table_->size(), static_cast<int64_t>(model_.rows().size()));
    std::map<int64_t, ModelTable::Row> rows;
    ScanCursor cursor;
    RowBlock block;
    const size_t width = static_cast<size_t>(table_->row_floats());
    for (;;) {
      ASSERT_TRUE(table_->Scan(&cursor, 1 + Draw(500), &block).ok());
      if (block.size() == 0) break;
      for (size_t i = 0; i < block.size(); ++i) {
        ModelTable::Row row;
        row.values.assign(&block.values[i * width], &block.values[i * width] + width);
        row.frequency = block.frequency[i];
        ASSERT_TRUE(rows.emplace(block.keys[i], row).second);
      }
    }
    ASSERT_EQ(rows.size(), model_.rows().size());
    for (const auto& [key, row] : model_.rows()) {
      ASSERT_TRUE(rows.contains(key)) << key;
      ASSERT_EQ(rows[key].values, row.values) << key;
      ASSERT_EQ(rows[key].frequency, row.frequency) << key;
    }
  }

  std::mt19937_64 rng_;
  uint64_t seed_;
  TableOptions options_;
  ModelTable model_;
  std::shared_ptr<Table> table_;
};

void RunSequences(uint64_t sequences, bool tiered) {
  if (const char* replay = std::getenv("MXREC_TEST_SEED")) {
    Sequence(std::strtoull(replay, nullptr, 10), tiered).Run();
    return;
  }
  for (uint64_t seed = 1; seed <= sequences; ++seed) {
    Sequence(seed, tiered).Run();
    if (::testing::Test::HasFailure()) FAIL() << "replay with MXREC_TEST_SEED=" << seed;
  }
}

TEST(TableModelTest, RandomSequencesEqualTheModel) { RunSequences(2000, false); }

TEST(TableModelTest, RandomSequencesWithHardlyARowInMemoryEqualTheModel) {
  RunSequences(500, true);
}

}  // namespace
}  // namespace mxrec
