// What the benchmarks ask of an implementation. An adapter is one header with one class that has
//
//   static constexpr const char* kName;
//   static bool Supports(int dim);
//   explicit Adapter(const AdapterOptions&);
//   void Insert(keys, values);      // sets rows [n, dim]; absent keys are inserted
//   void Find(keys, out);           // reads rows [n, dim]; every key is present
//   void FindOrInit(keys, out);     // the same; absent keys get a row of kInitialValue
//   void Update(keys, grads);       // one Adagrad step; every key is present
//   int64_t Erase(keys);            // rows erased
//   int64_t size() const;
//
// keys: std::span<const int64_t> of n keys; values, out, grads: n * dim floats. FindOrInit, Update
// and Erase may be left out together: the adapter is then measured on lookups alone. Each row
// of what can train carries an Adagrad accumulator, so that all store the same. Calls use
// NumThreads() threads where the implementation allows it, and come from one thread at a time.
//
// Keys may repeat. mxrec sums the gradients of a repeated key and updates its row once; the others
// update the row at each occurrence, which saves them the deduplication.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

#include "util/worker_pool.h"

namespace mxrec::bench {

struct AdapterOptions {
  int dim = 0;
  int64_t expected_rows = 0;  // for what cannot grow; growing adapters start small
  bool trainable = true;      // false: no Update; mxrec then stores no accumulator
};

using Keys = std::span<const int64_t>;

inline constexpr float kInitialValue = 0.05f;
inline constexpr float kInitialAccumulator = 0.1f;
inline constexpr float kLearningRate = 0.01f;

template <typename Adapter>
concept Trainable = requires(Adapter adapter, Keys keys, float* out) {
  adapter.FindOrInit(keys, out);
  adapter.Update(keys, out);
  adapter.Erase(keys);
};

// A stored row: the embedding [dim], then the accumulator [dim].
inline void InitRow(float* row, size_t dim) {
  for (size_t c = 0; c < dim; ++c) row[c] = kInitialValue;
  for (size_t c = 0; c < dim; ++c) row[dim + c] = kInitialAccumulator;
}

inline void CopyRow(const float* from, size_t dim, float* to) {
  std::memcpy(to, from, dim * sizeof(float));
}

inline void AdagradRow(const float* __restrict grad, size_t dim, float* __restrict row) {
  float* __restrict accumulator = row + dim;
  for (size_t c = 0; c < dim; ++c) {
    accumulator[c] += grad[c] * grad[c];
    row[c] -= kLearningRate * grad[c] / std::sqrt(accumulator[c]);
  }
}

// Calls range(begin, end) on parts of [0, n), on the threads that mxrec uses as well.
inline void InParallel(size_t n, const std::function<void(size_t, size_t)>& range) {
  constexpr size_t kGrain = 2048;
  WorkerPool::Get().RunRanges(n, kGrain, range);
}

}  // namespace mxrec::bench
