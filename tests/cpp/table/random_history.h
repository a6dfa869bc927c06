// Random tables and random things that happen to them: lookups, updates, erasures, evictions.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "index/key_hash.h"
#include "mxrec/table.h"
#include "table/tiers.h"

namespace mxrec::testing {

class RandomHistory {
 public:
  // tiered: the same history of a table with memory for few rows. widen: of dims so many times as
  // large, with few keys.
  explicit RandomHistory(uint64_t seed, bool tiered = false, int widen = 1) : rng_(seed) {
    TableOptions options;
    options.name = "history";
    options.dim = widen * (1 + Draw(6));
    options.num_shards = 1 << Draw(4);
    options.seed = rng_();
    options.initializer.kind = InitializerKind::kUniform;
    options.optimizer.kind = Draw(2) == 0 ? OptimizerKind::kAdagrad : OptimizerKind::kLazyAdam;
    if (Draw(3) == 0) options.value_type = ValueType::kBfloat16;
    if (Draw(2) == 0) options.eviction.max_age = 5 + Draw(20);
    if (Draw(3) == 0) options.eviction.max_rows = 100 + Draw(200);
    if (Draw(4) == 0) options.eviction.min_l2 = 0.1f * static_cast<float>(1 + Draw(10));
    if (Draw(2) == 0) {
      options.admission.threshold = 1 + Draw(4);
      if (Draw(2) == 0) {
        options.admission.mode = AdmissionMode::kSketch;
        options.admission.expected_keys = Draw(2) == 0 ? 1 : 10'000;
      }
    }
    universe_ = static_cast<uint64_t>(20 + Draw(Draw(3) == 0 && widen == 1 ? 5000 : 500));
    if (widen > 1) options.memory_rows = 5000;  // so that files of the SSD tier are small
    if (tiered) options = Tiered(options, 1 + static_cast<int64_t>(seed * 7 % 60));
    table_ = Table::Create(options).value();
    options_ = options;
  }

  Table& table() { return *table_; }
  const TableOptions& options() const { return options_; }
  bool sketch() const {
    return options_.admission.on() && options_.admission.mode == AdmissionMode::kSketch;
  }
  int Draw(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }
  std::vector<int64_t> Keys(int most) {
    std::vector<int64_t> keys(static_cast<size_t>(Draw(most)));
    for (int64_t& key : keys) {
      key = static_cast<int64_t>(HashKey(static_cast<int64_t>(rng_() % universe_)));
    }
    return keys;
  }

  // One random call. The same sequence of draws does the same to another table.
  void Step() {
    const std::vector<int64_t> keys = Keys(200);
    const int what = Draw(8);
    if (living_only_ && (what == 0 || options_.eviction.on())) before_.clear();
    switch (what) {
      case 0:
        Check(table_->Erase(Keys(20)).status());
        break;
      case 1:
        Check(table_->Assign(keys, Floats(keys.size()).data()));
        break;
      case 2: {
        ApplyResult result;
        Check(table_->ApplyGradients(keys, Floats(keys.size()).data(), std::nullopt, &result));
        break;
      }
      case 3:
        if (options_.eviction.on()) {
          const auto budget = Draw(2) == 0 ? std::optional<int64_t>() : Draw(10);
          Check(table_->Evict(std::nullopt, budget).status());
        }
        break;
      default:
        Train(keys);
    }
  }

  // Rows that the other calls leave alone: some new ones or, where there are such, some of them.
  void TrainColdRows() {
    std::vector<int64_t> keys(100);
    const bool more = cold_ < 1000;
    for (size_t i = 0; i < keys.size(); ++i) {
      const int64_t key = more ? cold_ + static_cast<int64_t>(i) : Draw(static_cast<int>(cold_));
      keys[i] = static_cast<int64_t>(HashKey(-1 - key));
    }
    if (more) cold_ += static_cast<int64_t>(keys.size());
    Train(keys);
  }

  // What an address leads to when its row has gone and its key has another one depends on how long
  // ago that was, and on where rows lie. From here on there are no such addresses.
  void UseAddressesOfLivingRowsOnly() { living_only_ = true; }
  // After a restore, which makes all of them invalid.
  void ForgetAddresses() { before_.clear(); }

  void Train(const std::vector<int64_t>& keys) {
    time_ += static_cast<uint32_t>(Draw(4));
    const std::vector<int64_t> now = {time_};
    TrainingUse use{.timestamps = now};
    if (Draw(3) == 0) {
      std::vector<float> out(keys.size() * static_cast<size_t>(options_.dim));
      Check(table_->LookupOrInsert(keys, out.data(), use));
      return;
    }
    UniqueKeys unique;
    std::vector<int32_t> inverse(keys.size());
    Check(table_->Resolve(keys, ResolveMode::kInsert, inverse.data(), &unique, use));
    if (Draw(4) == 0) return;
    if (!before_.empty() && Draw(4) == 0) std::swap(unique.addresses, before_);  // of long ago
    ApplyResult result;
    Check(table_->ApplyToAddresses(unique.addresses, Floats(unique.addresses.size()).data(),
                                   std::nullopt, StaleAddress::kFallBack, &result));
    before_ = unique.addresses;
  }

 private:
  static void Check(const Status& status) { ASSERT_TRUE(status.ok()) << status.message(); }
  std::vector<float> Floats(size_t rows) {
    std::vector<float> values(rows * static_cast<size_t>(options_.dim));
    for (float& v : values) v = static_cast<float>(Draw(2001) - 1000) / 512.0f;
    return values;
  }

  std::mt19937_64 rng_;
  TableOptions options_;
  std::shared_ptr<Table> table_;
  uint64_t universe_;
  uint32_t time_ = 1000;
  int64_t cold_ = 0;
  std::vector<int64_t> before_;
  bool living_only_ = false;
};

}  // namespace mxrec::testing
