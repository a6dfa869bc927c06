// ModelTable: what Table promises, on a std::map. Float arithmetic is in the same order, so results
// are equal, not close.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "initializers/row_initializer.h"
#include "mxrec/options.h"

namespace mxrec::testing {

class ModelTable {
 public:
  explicit ModelTable(const TableOptions& options)
      : options_(options), initializer_(options.initializer, options.seed, options.dim) {}

  struct Row {
    std::vector<float> values;  // embedding, slots
    uint32_t frequency = 0;
  };

  bool Fits(const std::vector<int64_t>& keys) const {
    if (options_.memory_rows == 0) return true;
    std::map<int64_t, int> fresh;
    for (int64_t k : keys) {
      if (!rows_.contains(k)) fresh[k] = 1;
    }
    return static_cast<int64_t>(rows_.size() + fresh.size()) <= options_.memory_rows;
  }
  void Train(const std::vector<int64_t>& keys) {
    for (int64_t k : keys) ++Get(k).frequency;
  }
  void Assign(const std::vector<int64_t>& keys, const std::vector<float>& values) {
    for (size_t i = 0; i < keys.size(); ++i) {
      Row& row = Get(keys[i]);
      for (int c = 0; c < options_.dim; ++c) row.values[c] = values[i * options_.dim + c];
    }
  }
  int64_t Erase(const std::vector<int64_t>& keys) {
    int64_t erased = 0;
    for (int64_t k : keys) erased += static_cast<int64_t>(rows_.erase(k));
    return erased;
  }
  // Returns the rows updated.
  int64_t Apply(const std::vector<int64_t>& keys, const std::vector<float>& grads, float rate) {
    std::map<int64_t, std::vector<float>> sums;
    for (size_t i = 0; i < keys.size(); ++i) {
      const float* g = grads.data() + i * options_.dim;
      auto [it, first] = sums.try_emplace(keys[i], g, g + options_.dim);
      for (int c = 0; !first && c < options_.dim; ++c) it->second[c] += g[c];
    }
    int64_t updated = 0;
    for (const auto& [key, g] : sums) {
      const auto it = rows_.find(key);
      if (it == rows_.end()) continue;
      ++updated;
      for (int c = 0; c < options_.dim; ++c) Step(&it->second.values, c, g[c], rate);
    }
    return updated;
  }
  std::vector<float> Lookup(const std::vector<int64_t>& keys) const {
    std::vector<float> out;
    for (int64_t k : keys) {
      const auto it = rows_.find(k);
      for (int c = 0; c < options_.dim; ++c) {
        out.push_back(it == rows_.end() ? 0.0f : it->second.values[c]);
      }
    }
    return out;
  }
  const std::map<int64_t, Row>& rows() const { return rows_; }

 private:
  Row& Get(int64_t key) {
    auto [it, fresh] = rows_.try_emplace(key);
    if (fresh) {
      const int slots = SlotCount(options_.optimizer.kind);
      it->second.values.assign(static_cast<size_t>(options_.dim) * (1 + slots), 0.0f);
      initializer_.Fill(key, it->second.values.data());
      for (int c = 0; options_.optimizer.kind == OptimizerKind::kAdagrad && c < options_.dim; ++c) {
        it->second.values[options_.dim + c] = options_.optimizer.initial_accumulator_value;
      }
    }
    return it->second;
  }
  void Step(std::vector<float>* row, int c, float g, float rate) const {
    float& w = (*row)[c];
    switch (options_.optimizer.kind) {
      case OptimizerKind::kSgd:
        w = w - rate * (g + options_.optimizer.weight_decay * w);
        break;
      case OptimizerKind::kMomentum: {
        float& accum = (*row)[options_.dim + c];
        accum = accum * options_.optimizer.momentum + g;
        w = w - rate * accum;
        break;
      }
      case OptimizerKind::kAdagrad: {
        float& accum = (*row)[options_.dim + c];
        accum = accum + g * g;
        w = w - (rate * g) / std::sqrt(accum);
        break;
      }
      default:
        break;
    }
  }

  TableOptions options_;
  RowInitializer initializer_;
  std::map<int64_t, Row> rows_;
};

}  // namespace mxrec::testing
