// AdmissionModel: what Table promises with admission and eviction by age, on std::map: what a
// trigger declares gone is gone at once. Updates are SGD by the scalar reference.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "admission/sketch_counters.h"
#include "index/key_hash.h"
#include "initializers/row_initializer.h"
#include "mxrec/options.h"
#include "optimizers/make.h"
#include "optimizers/optimizer.h"

namespace mxrec::testing {

class AdmissionModel {
 public:
  struct Row {
    std::vector<float> values;
    uint32_t count = 0;
    uint32_t last_time = 0;
    uint64_t incarnation = 0;
  };
  struct Count {
    uint32_t count = 0;
    uint32_t last_time = 0;
    bool operator==(const Count&) const = default;
  };

  explicit AdmissionModel(const TableOptions& options)
      : options_(options),
        threshold_(options.admission.threshold),
        initializer_(options.initializer, options.seed, options.dim),
        optimizer_(MakeOptimizer(options.optimizer, KernelChoice::kScalar)) {
    if (options.admission.mode == AdmissionMode::kSketch) {
      sketch_ = std::make_unique<SketchCounters>(&pages_, options.admission.expected_keys, 0, 0);
    }
  }

  const std::map<int64_t, Row>& rows() const { return rows_; }
  const std::map<int64_t, Count>& pending() const { return pending_; }
  bool has(int64_t key) const { return rows_.contains(key); }
  uint32_t latest() const { return latest_; }

  int64_t CountOf(int64_t key) const {
    if (const auto row = rows_.find(key); row != rows_.end()) return row->second.count;
    return PendingOf(key).count;
  }
  // Distinct ones for which a training lookup would make a row, in batch order.
  std::vector<int64_t> Missing(const std::vector<int64_t>& keys, uint64_t coefficient) const {
    std::vector<int64_t> missing;
    const auto occurrences = Occurrences(keys);
    for (const int64_t key : Distinct(keys)) {
      if (!has(key) && Admits(PendingOf(key).count, occurrences.at(key), coefficient)) {
        missing.push_back(key);
      }
    }
    return missing;
  }
  bool Fits(size_t more) const {
    return options_.memory_rows == 0 ||
           static_cast<int64_t>(rows_.size() + more) <= options_.memory_rows;
  }
  size_t Absent(const std::vector<int64_t>& keys) const {
    size_t absent = 0;
    for (const int64_t key : Distinct(keys)) absent += !has(key);
    return absent;
  }

  // times: one for each key.
  void Train(const std::vector<int64_t>& keys, const std::vector<uint32_t>& times, uint32_t latest,
             uint64_t coefficient) {
    const auto occurrences = Occurrences(keys);
    std::map<int64_t, uint32_t> last;
    for (size_t i = 0; i < keys.size(); ++i) last[keys[i]] = std::max(last[keys[i]], times[i]);
    std::vector<int64_t> refused;
    for (const int64_t key : Distinct(keys)) {
      const uint64_t more = frozen_ ? 0 : occurrences.at(key) * coefficient;
      if (const auto row = rows_.find(key); row != rows_.end()) {
        row->second.count = AddSaturating(row->second.count, more);
        row->second.last_time = std::max(row->second.last_time, last[key]);
      } else if (const Count seen = PendingOf(key);
                 Admits(seen.count, occurrences.at(key), coefficient)) {
        Row& made = Make(key);
        made.count = AddSaturating(seen.count, more);
        made.last_time = last[key];
        pending_.erase(key);
      } else {
        refused.push_back(key);
      }
    }
    for (const int64_t key : refused) {
      if (frozen_) continue;
      const auto more = AddSaturating(0, occurrences.at(key) * coefficient);
      if (sketch_ != nullptr) {
        bool fresh;
        const uint32_t place = sketch_->Reserve(HashKey(key), key, &fresh);
        sketch_->Commit(HashKey(key), key, place, more, 0);
      } else {
        Count& count = pending_[key];
        count.count = AddSaturating(count.count, more);
        count.last_time = std::max(count.last_time, last[key]);
      }
    }
    latest_ = std::max(latest_, latest);
  }

  // overwrite: Assign, else InsertMissing. The last of duplicates wins.
  void Assign(const std::vector<int64_t>& keys, const std::vector<float>& values, bool overwrite) {
    std::map<int64_t, bool> made;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!has(keys[i])) {
        Row& row = Make(keys[i]);
        const Count count = PendingOf(keys[i]);
        if (count.count != 0) {
          row.count = count.count;
          row.last_time = sketch_ != nullptr ? latest_ : count.last_time;
        }
        pending_.erase(keys[i]);
        made[keys[i]] = true;
      }
      if (!overwrite && !made.contains(keys[i])) continue;
      const float* from = values.data() + i * static_cast<size_t>(options_.dim);
      std::copy_n(from, options_.dim, rows_.at(keys[i]).values.data());
    }
  }
  int64_t Erase(const std::vector<int64_t>& keys) {
    int64_t erased = 0;
    for (const int64_t key : keys) {
      erased += static_cast<int64_t>(rows_.erase(key));
      pending_.erase(key);
    }
    return erased;
  }
  // Returns the rows updated.
  int64_t Apply(const std::vector<int64_t>& keys, const std::vector<float>& grads, float rate) {
    std::map<int64_t, std::vector<float>> sums;
    const auto dim = static_cast<size_t>(options_.dim);
    for (size_t i = 0; i < keys.size(); ++i) {
      const float* g = grads.data() + i * dim;
      auto [it, first] = sums.try_emplace(keys[i], g, g + dim);
      for (size_t c = 0; !first && c < dim; ++c) it->second[c] += g[c];
    }
    int64_t updated = 0;
    ++step_;
    for (const auto& [key, g] : sums) {
      const auto it = rows_.find(key);
      if (it == rows_.end()) continue;
      ++updated;
      float* row = it->second.values.data();
      optimizer_->Update(&row, g.data(), 1, options_.dim, {.learning_rate = rate, .step = step_});
    }
    return updated;
  }
  std::vector<float> Read(const std::vector<int64_t>& keys) const {
    std::vector<float> out;
    for (const int64_t key : keys) {
      const auto it = rows_.find(key);
      for (int c = 0; c < options_.dim; ++c) {
        out.push_back(it == rows_.end() ? 0.0f : it->second.values[static_cast<size_t>(c)]);
      }
    }
    return out;
  }
  void SetThreshold(int64_t threshold) {
    frozen_ = threshold == 0;
    if (threshold > 0) threshold_ = threshold;
  }
  // Returns the rows that are gone.
  int64_t Evict(int64_t now) {
    const int64_t cutoff = std::max<int64_t>(now, latest_) - options_.eviction.max_age;
    if (cutoff < 0) return 0;
    const auto gone = static_cast<int64_t>(std::erase_if(rows_, [&](const auto& each) {
      const Row& row = each.second;
      return row.last_time <= cutoff && (row.count != 0 || row.last_time != 0);
    }));
    std::erase_if(pending_, [&](const auto& each) { return each.second.last_time <= cutoff; });
    return gone;
  }

 private:
  Count PendingOf(int64_t key) const {
    if (!options_.admission.on()) return {};
    if (sketch_ != nullptr) return {sketch_->Peek(HashKey(key), key).count, 0};
    const auto found = pending_.find(key);
    return found == pending_.end() ? Count{} : found->second;
  }
  bool Admits(uint32_t seen, uint64_t occurrences, uint64_t coefficient) const {
    if (!options_.admission.on()) return true;
    const uint64_t more = frozen_ ? 0 : occurrences * coefficient;
    return static_cast<int64_t>(AddSaturating(seen, more)) >= threshold_;
  }
  static std::map<int64_t, uint64_t> Occurrences(const std::vector<int64_t>& keys) {
    std::map<int64_t, uint64_t> occurrences;
    for (const int64_t key : keys) ++occurrences[key];
    return occurrences;
  }
  static std::vector<int64_t> Distinct(const std::vector<int64_t>& keys) {
    std::map<int64_t, bool> seen;
    std::vector<int64_t> distinct;
    for (const int64_t key : keys) {
      if (seen.emplace(key, true).second) distinct.push_back(key);
    }
    return distinct;
  }
  Row& Make(int64_t key) {
    Row& row = rows_[key];
    row.values.resize(static_cast<size_t>(options_.dim));
    row.incarnation = ++made_;
    initializer_.Fill(key, row.values.data());
    return row;
  }

  TableOptions options_;
  int64_t threshold_;
  bool frozen_ = false;
  uint32_t latest_ = 0;
  int64_t step_ = 0;
  uint64_t made_ = 0;
  RowInitializer initializer_;
  std::unique_ptr<Optimizer> optimizer_;
  PageAllocator pages_;
  std::unique_ptr<SketchCounters> sketch_;  // null: exact counts
  std::map<int64_t, Row> rows_;
  std::map<int64_t, Count> pending_;
};

}  // namespace mxrec::testing
