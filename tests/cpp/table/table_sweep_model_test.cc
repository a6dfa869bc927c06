// Random sequences of every call on a table that admits and evicts, and on its model, while sweeps
// are paused half-way. A failure prints the seed of its sequence; MXREC_TEST_SEED=<seed> replays
// that one alone.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "table/admission_model.h"
#include "table/tiers.h"

namespace mxrec {
namespace {

using testing::AdmissionModel;

constexpr float kRate = 0.05f;

class Sequence {
 public:
  // large: slabs and segments enough for sweeps to be bounded by lookups, and for rows to move.
  // tiered: with memory for about one row in a hundred.
  Sequence(uint64_t seed, bool large, bool tiered)
      : rng_(seed), seed_(seed), large_(large), options_(Options()), model_(options_) {
    if (tiered) options_ = testing::Tiered(options_, large ? 300 : 1 + Draw(3));
    table_ = Table::Create(options_).value();
    universe_ = large ? 30'000 : 20 + Draw(300);
  }

  void Run() {
    const int operations = large_ ? 60 : 20 + Draw(60);
    if (large_) Fill();
    for (int i = 0; i < operations && !::testing::Test::HasFatalFailure(); ++i) {
      Step();
      if (!large_) CompareSizes();
    }
    Compare();
  }

 private:
  int Draw(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }

  TableOptions Options() {
    TableOptions options;
    options.name = "model";
    options.dim = large_ ? 48 : 1 + Draw(6);
    options.num_shards = large_ ? 1 << Draw(2) : 1 << Draw(5);
    options.seed = rng_();
    options.initializer.kind = InitializerKind::kUniform;
    options.optimizer.kind = OptimizerKind::kSgd;
    options.eviction.max_age = Draw(20);
    if (Draw(3) != 0) {
      options.admission.threshold = 1 + Draw(4);
      options.admission.coefficient = 1 + Draw(2);
      if (Draw(2) == 0) {
        options.admission.mode = AdmissionMode::kSketch;
        options.admission.expected_keys = Draw(2) == 0 ? 1 : 10'000;
      }
    }
    if (!large_ && Draw(4) == 0) options.memory_rows = 20 + Draw(60);
    return options;
  }

  int64_t Key(uint64_t n) const {  // spread over all int64
    return static_cast<int64_t>(HashKey(static_cast<int64_t>(n)));
  }
  std::vector<int64_t> Keys() {
    std::vector<int64_t> keys(static_cast<size_t>(Draw(large_ ? 1500 : 40)));
    for (int64_t& key : keys) key = Key(rng_() % static_cast<uint64_t>(universe_));
    return keys;
  }
  std::vector<float> Floats(size_t rows) {
    std::vector<float> values(rows * dim());
    for (float& v : values) v = static_cast<float>(Draw(2001) - 1000) / 512.0f;
    return values;
  }
  size_t dim() const { return static_cast<size_t>(options_.dim); }
  uint64_t Coefficient() { return Draw(3) == 0 ? static_cast<uint64_t>(1 + Draw(3)) : 0; }

  void Fill() {
    std::vector<int64_t> keys;
    for (int i = 0; i < universe_; ++i) keys.push_back(Key(static_cast<uint64_t>(i)));
    std::vector<float> out(keys.size() * dim());
    const std::vector<int64_t> now = {time_};
    for (int64_t seen = 0; seen < std::max<int64_t>(options_.admission.threshold, 1); ++seen) {
      ASSERT_TRUE(table_->LookupOrInsert(keys, out.data(), {.timestamps = now}).ok());
      model_.Train(keys, std::vector<uint32_t>(keys.size(), time_), time_,
                   static_cast<uint64_t>(options_.admission.coefficient));
    }
    // One row in ten stays young.
    time_ += options_.eviction.max_age + 10;
    std::erase_if(keys, [](int64_t key) { return HashKey(key) % 10 != 0; });
    Train(keys);
  }

  void Train(const std::vector<int64_t>& keys) {
    time_ += static_cast<uint32_t>(Draw(4));
    std::vector<int64_t> given;
    std::vector<uint32_t> times(keys.size());
    if (!keys.empty() && Draw(3) == 0) {  // each its own, some of long ago
      for (uint32_t& time : times) {
        time = time_ - std::min(time_, static_cast<uint32_t>(Draw(30)));
        given.push_back(time);
      }
    } else {
      const uint32_t all = Draw(5) == 0 ? time_ - std::min(time_, 25u) : time_;
      std::fill(times.begin(), times.end(), all);
      given.push_back(all);
    }
    const auto latest = static_cast<uint32_t>(*std::max_element(given.begin(), given.end()));
    const uint64_t coefficient = Coefficient();
    const uint64_t weight =
        coefficient > 0 ? coefficient : static_cast<uint64_t>(options_.admission.coefficient);
    const TrainingUse use{.timestamps = given,
                          .coefficient = static_cast<int64_t>(coefficient),
                          .absent_row = nullptr};
    const bool fits = model_.Fits(model_.Missing(keys, weight).size());
    const int kind = Draw(3);
    std::vector<float> out(keys.size() * dim());
    UniqueKeys unique;
    std::vector<int32_t> inverse(keys.size());
    Status status;
    if (kind == 0) {
      status = table_->LookupOrInsert(keys, out.data(), use);
    } else if (kind == 1) {
      status = table_->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique, use);
    } else {
      const std::vector<int64_t> offsets = Offsets(keys.size());
      status = table_->LookupOrInsertPooled(keys, {.offsets = offsets}, out.data(), use);
    }
    ASSERT_EQ(status.ok(), fits) << status.message();
    if (!fits) {
      ASSERT_EQ(status.code(), StatusCode::kResourceExhausted);
      return;
    }
    model_.Train(keys, times, latest, weight);
    if (kind == 1) {
      for (size_t u = 0; u < unique.size(); ++u) {
        ASSERT_EQ(unique.addresses[u] == kNoAddress, !model_.has(unique.keys[u]));
        Remember(unique.keys[u], unique.addresses[u]);
      }
      for (size_t i = 0; i < keys.size(); ++i) {
        ASSERT_EQ(unique.keys[static_cast<size_t>(inverse[i])], keys[i]);
      }
    } else {
      ASSERT_EQ(out, model_.Read(keys));
    }
  }
  // Bags of one key each: pooled rows are the rows.
  static std::vector<int64_t> Offsets(size_t n) {
    std::vector<int64_t> offsets(n + 1);
    for (size_t i = 0; i <= n; ++i) offsets[i] = static_cast<int64_t>(i);
    return offsets;
  }

  // --- Addresses of before.
  struct Held {
    int64_t key;
    int64_t address;
    uint64_t incarnation;
  };
  void Remember(int64_t key, int64_t address) {
    if (address == kNoAddress) return;
    if (held_.size() >= 2000) held_.erase(held_.begin(), held_.begin() + 1000);
    held_.push_back({key, address, model_.rows().at(key).incarnation});
  }
  // Those of rows that are there, and of keys without a row. What an address of a row leads to when
  // its key has another one by now depends on how long ago that was.
  std::vector<Held> SomeHeld() {
    std::vector<Held> some;
    for (int n = Draw(30); n > 0 && !held_.empty(); --n) {
      const Held& one = held_[static_cast<size_t>(Draw(static_cast<int>(held_.size())))];
      const auto row = model_.rows().find(one.key);
      if (row == model_.rows().end() || row->second.incarnation == one.incarnation) {
        some.push_back(one);
      }
    }
    return some;
  }
  void ApplyToAddresses() {
    const std::vector<Held> held = SomeHeld();
    std::vector<int64_t> addresses, keys;
    bool all_live = true;
    for (const Held& one : held) {
      addresses.push_back(one.address);
      keys.push_back(one.key);
      all_live &= model_.has(one.key);
    }
    const std::vector<float> grads = Floats(held.size());
    ApplyResult result;
    const auto policy = Draw(2) == 0 ? StaleAddress::kReject : StaleAddress::kFallBack;
    const Status status = table_->ApplyToAddresses(addresses, grads.data(), kRate, policy, &result);
    if (policy == StaleAddress::kReject && !all_live) {
      ASSERT_EQ(status.code(), StatusCode::kInvalidArgument);
      ASSERT_NE(status.message().find("names no row"), std::string::npos) << status.message();
      return;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_EQ(result.updated, model_.Apply(keys, grads, kRate));
  }
  void ReadAddresses() {
    const std::vector<Held> held = SomeHeld();
    std::vector<int64_t> addresses, keys;
    std::vector<int32_t> inverse;
    for (const Held& one : held) {
      inverse.push_back(static_cast<int32_t>(addresses.size()));
      addresses.push_back(one.address);
      keys.push_back(one.key);
    }
    std::vector<float> out(held.size() * dim(), -1.0f);
    if (Draw(2) == 0) {
      ASSERT_TRUE(table_->ReadRows(addresses, keys, nullptr, out.data()).ok());
    } else {
      const std::vector<int64_t> offsets = Offsets(held.size());
      ASSERT_TRUE(table_
                      ->ReadRowsPooled(addresses, keys, inverse.data(), {.offsets = offsets},
                                       nullptr, out.data())
                      .ok());
    }
    ASSERT_EQ(out, model_.Read(keys));
  }

  void Evict() {
    std::optional<int64_t> now, budget;
    if (Draw(2) == 0) now = std::max(0, static_cast<int>(time_) - 5 + Draw(30));
    if (Draw(4) != 0) budget = large_ ? Draw(3000) : Draw(20);
    const auto freed = table_->Evict(now, budget);
    ASSERT_TRUE(freed.ok()) << freed.status().message();
    if (budget.has_value()) {
      ASSERT_LE(freed.value(), *budget);
    }
    // Before any training the wall clock counts, and there is nothing to go by it.
    model_.Evict(now.value_or(model_.latest()));
    ASSERT_EQ(table_->size(), static_cast<int64_t>(model_.rows().size()));
  }

  void Step() {
    switch (Draw(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
        Train(Keys());
        break;
      case 4: {
        const std::vector<int64_t> keys = Keys();
        std::vector<float> out(keys.size() * dim(), -1.0f);
        if (Draw(2) == 0) {
          ASSERT_TRUE(table_->Lookup(keys, nullptr, out.data()).ok());
        } else {
          const std::vector<int64_t> offsets = Offsets(keys.size());
          ASSERT_TRUE(table_->LookupPooled(keys, {.offsets = offsets}, nullptr, out.data()).ok());
        }
        ASSERT_EQ(out, model_.Read(keys));
        break;
      }
      case 5: {
        const std::vector<int64_t> keys = Keys();
        UniqueKeys unique;
        ASSERT_TRUE(table_->Resolve(keys, ResolveMode::kFind, nullptr, &unique).ok());
        for (size_t u = 0; u < unique.size(); ++u) {
          ASSERT_EQ(unique.addresses[u] == kNoAddress, !model_.has(unique.keys[u]));
          Remember(unique.keys[u], unique.addresses[u]);
        }
        break;
      }
      case 6: {
        const std::vector<int64_t> keys = Keys();
        auto contained = std::make_unique<bool[]>(keys.size());
        ASSERT_TRUE(table_->Contains(keys, contained.get()).ok());
        for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(contained[i], model_.has(keys[i]));
        break;
      }
      case 7: {
        const std::vector<int64_t> keys = Keys();
        const uint64_t coefficient = Coefficient();
        std::vector<int64_t> missing;
        ASSERT_TRUE(table_->Missing(keys, &missing, static_cast<int64_t>(coefficient)).ok());
        ASSERT_EQ(missing, model_.Missing(
                               keys, coefficient > 0
                                         ? coefficient
                                         : static_cast<uint64_t>(options_.admission.coefficient)));
        break;
      }
      case 8: {
        const std::vector<int64_t> keys = Keys();
        std::vector<int64_t> counts(keys.size());
        ASSERT_TRUE(table_->Counts(keys, counts.data()).ok());
        for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(counts[i], model_.CountOf(keys[i]));
        break;
      }
      case 9:
        ReadAddresses();
        break;
      case 10:
      case 11:
        ApplyToAddresses();
        break;
      case 12: {
        const std::vector<int64_t> keys = Keys();
        const std::vector<float> grads = Floats(keys.size());
        ApplyResult result;
        if (Draw(2) == 0) {
          ASSERT_TRUE(table_->ApplyGradients(keys, grads.data(), kRate, &result).ok());
        } else {
          const std::vector<int64_t> offsets = Offsets(keys.size());
          ASSERT_TRUE(
              table_->ApplyPooledGradients(keys, {.offsets = offsets}, grads.data(), kRate, &result)
                  .ok());
        }
        ASSERT_EQ(result.updated, model_.Apply(keys, grads, kRate));
        break;
      }
      case 13: {
        const std::vector<int64_t> keys = Keys();
        const std::vector<float> values = Floats(keys.size());
        const bool fits = model_.Fits(model_.Absent(keys));
        const bool overwrite = Draw(2) == 0;
        const Status status = overwrite ? table_->Assign(keys, values.data())
                                        : table_->InsertMissing(keys, values.data());
        ASSERT_EQ(status.ok(), fits) << status.message();
        if (fits) model_.Assign(keys, values, overwrite);
        break;
      }
      case 14: {
        std::vector<int64_t> keys = Keys();
        keys.resize(keys.size() / 8);
        const auto erased = table_->Erase(keys);
        ASSERT_TRUE(erased.ok());
        ASSERT_EQ(erased.value(), model_.Erase(keys));
        break;
      }
      case 15: {
        if (!options_.admission.on()) break;
        const int64_t threshold = Draw(5);
        ASSERT_TRUE(table_->SetThreshold(threshold).ok());
        model_.SetThreshold(threshold);
        break;
      }
      case 16:
      case 17:
      case 18:
        Evict();
        break;
      default:
        if (Draw(4) == 0) SaveAndLoad();
        Compare();
    }
  }

  void SaveAndLoad() {
    const std::string dir =
        (std::filesystem::temp_directory_path() /
         ("mxrec-sweep-" + std::to_string(getpid()) + "-" + std::to_string(seed_)))
            .string();
    const auto saved = SaveTable(*table_, dir, 7);
    ASSERT_TRUE(saved.ok()) << saved.status().message();
    ASSERT_EQ(saved.value().rows, static_cast<int64_t>(model_.rows().size()));
    if (options_.ssd_rows == 0 && Draw(2) == 0) {
      auto loaded = LoadTable(dir, 1 << Draw(5));
      ASSERT_TRUE(loaded.ok()) << loaded.status().message();
      table_ = std::move(loaded).value();
    } else {
      const auto restored = RestoreTable(table_.get(), dir);
      ASSERT_TRUE(restored.ok()) << restored.status().message();
    }
    held_.clear();  // addresses of the rows that were replaced
    std::filesystem::remove_all(dir);
  }

  void CompareSizes() {
    const TableStats stats = table_->Stats();
    const auto rows = static_cast<int64_t>(model_.rows().size());
    ASSERT_EQ(table_->size(), rows);
    ASSERT_EQ(stats.rows, rows);
    if (!stats.evicting && options_.admission.mode == AdmissionMode::kExact) {
      ASSERT_EQ(stats.counted_keys, static_cast<int64_t>(model_.pending().size()));
    }
  }
  void Compare() {
    CompareSizes();
    ScanCursor cursor;
    RowBlock block;
    size_t rows = 0;
    for (;;) {
      ASSERT_TRUE(table_->Scan(&cursor, 1 + Draw(5000), &block).ok());
      if (block.size() == 0) break;
      rows += block.size();
      for (size_t i = 0; i < block.size(); ++i) {
        ASSERT_TRUE(model_.has(block.keys[i])) << block.keys[i];
        const AdmissionModel::Row& row = model_.rows().at(block.keys[i]);
        const float* values = block.values.data() + i * dim();
        ASSERT_EQ(std::vector<float>(values, values + dim()), row.values) << block.keys[i];
        ASSERT_EQ(block.frequency[i], row.count) << block.keys[i];
        ASSERT_EQ(block.last_time[i], row.last_time) << block.keys[i];
      }
    }
    ASSERT_EQ(rows, model_.rows().size());
    if (options_.admission.mode == AdmissionMode::kSketch) return;
    const auto lock = table_->LockForRead();
    std::map<int64_t, AdmissionModel::Count> counts;
    for (cursor = {};;) {
      ASSERT_TRUE(table_->ScanCounts(&cursor, 1 + Draw(5000), &block, lock.value()).ok());
      if (block.size() == 0) break;
      for (size_t i = 0; i < block.size(); ++i) {
        counts[block.keys[i]] = {block.frequency[i], block.last_time[i]};
      }
    }
    ASSERT_EQ(counts, model_.pending());
  }

  std::mt19937_64 rng_;
  uint64_t seed_;
  bool large_;
  TableOptions options_;
  AdmissionModel model_;
  int universe_ = 0;
  uint32_t time_ = 40;
  std::vector<Held> held_;
  std::shared_ptr<Table> table_;
};

void RunSequences(uint64_t sequences, bool large, bool tiered) {
  if (const char* replay = std::getenv("MXREC_TEST_SEED")) {
    Sequence(std::strtoull(replay, nullptr, 10), large, tiered).Run();
    return;
  }
  for (uint64_t seed = 1; seed <= sequences; ++seed) {
    Sequence(seed, large, tiered).Run();
    if (::testing::Test::HasFailure()) FAIL() << "replay with MXREC_TEST_SEED=" << seed;
  }
}

TEST(TableSweepModelTest, SmallTablesEqualTheModel) { RunSequences(500, false, false); }

TEST(TableSweepModelTest, LargeTablesWhoseRowsMoveEqualTheModel) { RunSequences(10, true, false); }

TEST(TableSweepModelTest, SmallTablesWithHardlyARowInMemoryEqualTheModel) {
  RunSequences(300, false, true);
}

TEST(TableSweepModelTest, LargeTablesWithFewRowsInMemoryEqualTheModel) {
  RunSequences(6, true, true);
}

}  // namespace
}  // namespace mxrec
