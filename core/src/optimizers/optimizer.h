// Optimizer: how one step changes rows, and what slots it keeps in them.
//
// Thread safety: const methods may run concurrently on different rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "mxrec/options.h"

namespace mxrec {

struct StepParams {
  float learning_rate = 0.0f;
  int64_t step = 1;  // 1-based number of this apply call: the t of Adam's powers
};

class Optimizer {
 public:
  static std::unique_ptr<Optimizer> Make(const OptimizerOptions& options);  // kNone: null
  virtual ~Optimizer() = default;

  // Writes the initial values of all slots. slots: [slots * dim].
  virtual void InitSlots(float* slots, int dim) const = 0;
  // Updates n rows. rows[i]: the embedding, with slot s at rows[i] + (1 + s) * dim; rows are
  // distinct and not aligned. grads: [n, dim].
  virtual void Update(float* const* rows, const float* grads, size_t n, int dim,
                      const StepParams& step) const = 0;
};

}  // namespace mxrec
