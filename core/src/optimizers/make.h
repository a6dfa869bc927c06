// How each optimizer is made. Tests choose the scalar reference; the engine takes the vector
// kernels, which equal it bit for bit.
#pragma once

#include <memory>

#include "optimizers/optimizer.h"

namespace mxrec {

enum class KernelChoice { kVector, kScalar };

// kNone: null.
std::unique_ptr<Optimizer> MakeOptimizer(const OptimizerOptions& options, KernelChoice kernels);

std::unique_ptr<Optimizer> MakeSgd(const OptimizerOptions& options, KernelChoice kernels);
std::unique_ptr<Optimizer> MakeMomentum(const OptimizerOptions& options, KernelChoice kernels);
std::unique_ptr<Optimizer> MakeAdagrad(const OptimizerOptions& options, KernelChoice kernels);
std::unique_ptr<Optimizer> MakeFtrl(const OptimizerOptions& options, KernelChoice kernels);
std::unique_ptr<Optimizer> MakeLazyAdam(const OptimizerOptions& options, KernelChoice kernels);

}  // namespace mxrec
