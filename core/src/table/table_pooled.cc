// Table: pooled calls that are made of other calls.
#include <memory>
#include <new>
#include <string>

#include "mxrec/runtime.h"
#include "mxrec/table.h"

namespace mxrec {
namespace {

Status OutOfMemory(const Table& table, size_t keys) {
  return ResourceExhausted("out of memory in a pooled call on table '" + table.name() + "' with " +
                           std::to_string(keys) + " keys; use smaller batches");
}

Status CheckFinite(const char* parameter, const float* values, size_t n) {
  const size_t at = kernels::FirstNonFinite(values, n);
  if (at == n) return {};
  return InvalidArgument(std::string(parameter) + " is NaN or infinite at element " +
                         std::to_string(at) + " of " + std::to_string(n) +
                         "; gradients and weights must be finite, nothing was updated");
}

}  // namespace

Status Table::LookupOrInsertPooled(KeySpan keys, const Bags& bags, float* out,
                                   const TrainingUse& use) {
  MXREC_RETURN_IF_ERROR(Validate(bags, keys.size()));
  try {
    const auto inverse = std::make_unique_for_overwrite<int32_t[]>(keys.size());
    UniqueKeys unique;
    MXREC_RETURN_IF_ERROR(Resolve(keys, ResolveMode::kInsert, inverse.get(), &unique, use));
    return ReadRowsPooled(unique.addresses, unique.keys, inverse.get(), bags, use.absent_row, out);
  } catch (const std::bad_alloc&) {
    return OutOfMemory(*this, keys.size());
  }
}

Status Table::ApplyPooledGradients(KeySpan keys, const Bags& bags, const float* grads,
                                   std::optional<float> learning_rate, ApplyResult* result) {
  MXREC_RETURN_IF_ERROR(Validate(bags, keys.size()));
  const auto width = static_cast<size_t>(dim_);
  MXREC_RETURN_IF_ERROR(CheckFinite("grads", grads, bags.size() * width));
  if (bags.weights != nullptr) {
    MXREC_RETURN_IF_ERROR(CheckFinite("weights", bags.weights, keys.size()));
  }
  try {
    const auto inverse = std::make_unique_for_overwrite<int32_t[]>(keys.size());
    UniqueKeys unique;
    MXREC_RETURN_IF_ERROR(Resolve(keys, ResolveMode::kFind, inverse.get(), &unique));
    const auto sums = std::make_unique_for_overwrite<float[]>(unique.size() * width);
    kernels::PooledSegmentSum(grads, inverse.get(), bags, unique.size(), dim_, sums.get());
    return ApplyGradients(unique.keys, sums.get(), learning_rate, result);
  } catch (const std::bad_alloc&) {
    return OutOfMemory(*this, keys.size());
  }
}

}  // namespace mxrec
