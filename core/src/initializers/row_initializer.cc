#include "initializers/row_initializer.h"

#include <algorithm>
#include <cmath>

#include "initializers/portable_math.h"
#include "initializers/random_bits.h"

namespace mxrec {
namespace {

constexpr double kPhiMinus2 = 0.022750131948179207200;  // mass of a normal below -2 stddev
// Standard deviation of a standard normal cut at +-2.
constexpr double kTruncatedStddev = 0.87962566103423978;

// Standard normals at the probabilities p. The central part, 85 % of them, runs without a branch
// over the whole block so that the processor overlaps its long polynomials.
void InverseNormals(const double* p, int n, double* out) {
  for (int c = 0; c < n; ++c) out[c] = InverseNormalCentral(p[c] - 0.5);
  for (int c = 0; c < n; ++c) {
    const double q = p[c] - 0.5;
    if (!IsNormalCentral(q)) out[c] = InverseNormalTail(p[c], q);
  }
}

double VarianceFan(const InitializerOptions& options, int dim) {
  const double fan_out = dim;
  const double fan_in = options.fan_in > 0 ? static_cast<double>(options.fan_in) : fan_out;
  switch (options.mode) {
    case VarianceMode::kFanIn:
      return fan_in;
    case VarianceMode::kFanOut:
      return fan_out;
    case VarianceMode::kFanAvg:
      return (fan_in + fan_out) / 2;
  }
  return fan_in;
}

}  // namespace

RowInitializer::RowInitializer(const InitializerOptions& options, uint64_t seed, int dim)
    : options_(options),
      seed_(seed),
      dim_(dim),
      effective_kind_(options.kind),
      low_(options.low),
      high_(options.high),
      mean_(options.mean),
      stddev_(options.stddev) {
  if (options.kind != InitializerKind::kVarianceScaling) return;
  const double variance = options.scale / std::max(1.0, VarianceFan(options, dim));
  mean_ = 0.0f;
  switch (options.distribution) {
    case VarianceDistribution::kTruncatedNormal:
      effective_kind_ = InitializerKind::kTruncatedNormal;
      stddev_ = static_cast<float>(std::sqrt(variance) / kTruncatedStddev);
      break;
    case VarianceDistribution::kUntruncatedNormal:
      effective_kind_ = InitializerKind::kNormal;
      stddev_ = static_cast<float>(std::sqrt(variance));
      break;
    case VarianceDistribution::kUniform:
      effective_kind_ = InitializerKind::kUniform;
      high_ = static_cast<float>(std::sqrt(3.0 * variance));
      low_ = -high_;
      break;
  }
}

void RowInitializer::Fill(int64_t key, float* row) const {
  const float gain = options_.gain;
  switch (effective_kind_) {
    case InitializerKind::kZeros:
      std::fill_n(row, dim_, 0.0f);
      return;
    case InitializerKind::kOnes:
      std::fill_n(row, dim_, gain);
      return;
    case InitializerKind::kConstant:
      std::fill_n(row, dim_, options_.value * gain);
      return;
    default:
      break;
  }

  const RowBits bits(seed_, key);
  constexpr int kBlock = 64;
  double unit[kBlock], normal[kBlock];
  const bool uniform = effective_kind_ == InitializerKind::kUniform;
  const bool truncated = effective_kind_ == InitializerKind::kTruncatedNormal;
  const double low = low_, width = static_cast<double>(high_) - low_;
  const float below_high = std::nextafter(high_, low_);  // rounding to float may reach high
  for (int begin = 0; begin < dim_; begin += kBlock) {
    const int n = std::min(kBlock, dim_ - begin);
    float* out = row + begin;
    for (int c = 0; c < n; ++c) unit[c] = bits.Unit(begin + c);
    if (uniform) {
      for (int c = 0; c < n; ++c) {
        const float drawn = static_cast<float>(low + width * unit[c]);
        out[c] = std::min(drawn, below_high) * gain;
      }
      continue;
    }
    if (truncated) {
      for (int c = 0; c < n; ++c) unit[c] = kPhiMinus2 + unit[c] * (1.0 - 2.0 * kPhiMinus2);
    }
    InverseNormals(unit, n, normal);
    if (truncated) {
      for (int c = 0; c < n; ++c) normal[c] = std::clamp(normal[c], -2.0, 2.0);
    }
    for (int c = 0; c < n; ++c) {
      out[c] = static_cast<float>(mean_ + stddev_ * normal[c]) * gain;
    }
  }
}

}  // namespace mxrec
