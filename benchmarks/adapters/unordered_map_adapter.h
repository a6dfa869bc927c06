// std::unordered_map into one growing array, single-threaded: what a plain implementation reaches.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <unordered_map>
#include <vector>

namespace mxrec::bench {

class UnorderedMapAdapter {
 public:
  static constexpr const char* kName = "unordered_map";

  explicit UnorderedMapAdapter(int dim) : dim_(dim) {}

  void Insert(std::span<const int64_t> keys, const float* values) {
    for (size_t i = 0; i < keys.size(); ++i) {
      std::memcpy(RowOf(keys[i]), values + i * dim_, dim_ * sizeof(float));
    }
  }
  void Lookup(std::span<const int64_t> keys, float* out) {
    for (size_t i = 0; i < keys.size(); ++i) {
      const float* row = rows_.data() + index_.find(keys[i])->second * 2 * dim_;
      std::memcpy(out + i * dim_, row, dim_ * sizeof(float));
    }
  }
  // Adagrad for every occurrence: duplicates are not summed.
  void Train(std::span<const int64_t> keys, const float* grads, float* out) {
    for (size_t i = 0; i < keys.size(); ++i) {
      float* row = RowOf(keys[i]);
      float* accumulator = row + dim_;
      std::memcpy(out + i * dim_, row, dim_ * sizeof(float));
      for (size_t c = 0; c < dim_; ++c) {
        const float grad = grads[i * dim_ + c];
        accumulator[c] += grad * grad;
        row[c] -= 0.01f * grad / std::sqrt(accumulator[c]);
      }
    }
  }

 private:
  // Embedding, then the accumulator.
  float* RowOf(int64_t key) {
    const auto [entry, inserted] = index_.try_emplace(key, index_.size());
    if (inserted) rows_.resize(rows_.size() + 2 * dim_, 0.1f);
    return rows_.data() + entry->second * 2 * dim_;
  }

  size_t dim_;
  std::unordered_map<int64_t, size_t> index_;
  std::vector<float> rows_;
};

}  // namespace mxrec::bench
