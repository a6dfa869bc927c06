// RowInitializer: the initial embedding of a key, a pure function of (seed, key, column).
#pragma once

#include <cstdint>

#include "mxrec/options.h"

namespace mxrec {

class RowInitializer {
 public:
  RowInitializer(const InitializerOptions& options, uint64_t seed, int dim);
  // row: [dim]. Thread-safe.
  void Fill(int64_t key, float* row) const;

 private:
  InitializerOptions options_;
  uint64_t seed_;
  int dim_;
  // What VarianceScaling comes to.
  InitializerKind effective_kind_;
  float low_ = 0.0f, high_ = 0.0f, mean_ = 0.0f, stddev_ = 0.0f;
};

}  // namespace mxrec
