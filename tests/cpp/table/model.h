// ModelTable: what Table promises, on a std::map. Update rules are the scalar reference and sums
// have batch order, so results are equal, not close.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "initializers/row_initializer.h"
#include "kernels/half_bits.h"
#include "mxrec/options.h"
#include "optimizers/make.h"
#include "optimizers/optimizer.h"

namespace mxrec::testing {

class ModelTable {
 public:
  explicit ModelTable(const TableOptions& options)
      : options_(options),
        initializer_(options.initializer, options.seed, options.dim),
        optimizer_(MakeOptimizer(options.optimizer, KernelChoice::kScalar)) {}

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
      for (int c = 0; c < options_.dim; ++c) row.values[c] = Stored(values[i * options_.dim + c]);
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
    ++step_;
    for (const auto& [key, g] : sums) {
      const auto it = rows_.find(key);
      if (it == rows_.end()) continue;
      ++updated;
      float* row = it->second.values.data();
      optimizer_->Update(&row, g.data(), 1, options_.dim, {.learning_rate = rate, .step = step_});
      for (int c = 0; c < options_.dim; ++c) row[c] = StoredByUpdate(row[c], key, c);
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
  // What the table's type keeps of a value.
  float Stored(float value) const {
    switch (options_.value_type) {
      case ValueType::kFloat32:
        break;
      case ValueType::kFloat16:
        return kernels::Float16::ToFloat(kernels::Float16::Nearest(value));
      case ValueType::kBfloat16:
        return kernels::Bfloat16::ToFloat(kernels::Bfloat16::Nearest(value));
    }
    return value;
  }
  float StoredByUpdate(float value, int64_t key, int column) const {
    if (!options_.stochastic_rounding) return Stored(value);
    const uint32_t identity = kernels::RoundingIdentity(options_.seed, key);
    const uint32_t random = kernels::RoundingBits(kernels::RoundingStream(identity, step_), column);
    return options_.value_type == ValueType::kFloat16
               ? kernels::Float16::ToFloat(kernels::Float16::Stochastic(value, random))
               : kernels::Bfloat16::ToFloat(kernels::Bfloat16::Stochastic(value, random));
  }
  Row& Get(int64_t key) {
    auto [it, fresh] = rows_.try_emplace(key);
    if (fresh) {
      const int slots = SlotCount(options_.optimizer.kind);
      it->second.values.assign(static_cast<size_t>(options_.dim) * (1 + slots), 0.0f);
      initializer_.Fill(key, it->second.values.data());
      for (int c = 0; c < options_.dim; ++c) it->second.values[c] = Stored(it->second.values[c]);
      optimizer_->InitSlots(it->second.values.data() + options_.dim, options_.dim);
    }
    return it->second;
  }
  TableOptions options_;
  RowInitializer initializer_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t step_ = 0;
  std::map<int64_t, Row> rows_;
};

}  // namespace mxrec::testing
