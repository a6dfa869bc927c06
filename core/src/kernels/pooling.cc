#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/pooling.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/row_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {

// Adds columns [c, c + kVectors * lanes) of n rows to those of sum. Multiplied and added apart:
// fused, the result would differ from that of an instruction set without.
template <int kVectors, bool kScaled>
HWY_INLINE void AddColumns(const float* const* rows, const float* scale, size_t n, size_t c,
                           float* sum) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::LoadU(d, sum + c);
  auto s1 = kVectors > 1 ? hn::LoadU(d, sum + c + lanes) : hn::Zero(d);
  auto s2 = kVectors > 2 ? hn::LoadU(d, sum + c + 2 * lanes) : hn::Zero(d);
  auto s3 = kVectors > 2 ? hn::LoadU(d, sum + c + 3 * lanes) : hn::Zero(d);
  for (size_t i = 0; i < n; ++i) {
    const float* row = rows[i] + c;
    const auto factor = kScaled ? hn::Set(d, scale[i]) : hn::Zero(d);
    const auto term = [&](const float* p) HWY_ATTR {
      const auto v = hn::LoadU(d, p);
      if constexpr (kScaled) {
        return hn::Mul(factor, v);
      } else {
        return v;
      }
    };
    s0 = hn::Add(s0, term(row));
    if constexpr (kVectors > 1) s1 = hn::Add(s1, term(row + lanes));
    if constexpr (kVectors > 2) {
      s2 = hn::Add(s2, term(row + 2 * lanes));
      s3 = hn::Add(s3, term(row + 3 * lanes));
    }
  }
  hn::StoreU(s0, d, sum + c);
  if constexpr (kVectors > 1) hn::StoreU(s1, d, sum + c + lanes);
  if constexpr (kVectors > 2) {
    hn::StoreU(s2, d, sum + c + 2 * lanes);
    hn::StoreU(s3, d, sum + c + 3 * lanes);
  }
}

template <bool kScaled>
HWY_INLINE void AddRowsTo(const float* const* rows, const float* scale, size_t n, size_t dim,
                          float* sum) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<float>());
  size_t c = 0;
  for (; c + 4 * lanes <= dim; c += 4 * lanes) AddColumns<4, kScaled>(rows, scale, n, c, sum);
  for (; c + 2 * lanes <= dim; c += 2 * lanes) AddColumns<2, kScaled>(rows, scale, n, c, sum);
  for (; c + lanes <= dim; c += lanes) AddColumns<1, kScaled>(rows, scale, n, c, sum);
  if (c == dim) return;
  for (size_t i = 0; i < n; ++i) {
    const float factor = kScaled ? scale[i] : 1.0f;
    for (size_t t = c; t < dim; ++t) sum[t] = sum[t] + factor * rows[i][t];
  }
}

// sum += scale[i] * rows[i], i ascending; scale null: all 1.
void AddRows(const float* const* rows, const float* scale, size_t n, size_t dim, float* sum) {
  if (scale == nullptr) {
    AddRowsTo<false>(rows, scale, n, dim, sum);
  } else {
    AddRowsTo<true>(rows, scale, n, dim, sum);
  }
}

void ClearOneRow(size_t dim, float* row) { ClearRow(dim, row); }

void DivideRow(float divisor, size_t dim, float* row) {
  const hn::ScalableTag<float> d;
  const auto by = hn::Set(d, divisor);
  size_t c = 0;
  for (; c + hn::Lanes(d) <= dim; c += hn::Lanes(d)) {
    hn::StoreU(hn::Div(hn::LoadU(d, row + c), by), d, row + c);
  }
  for (; c < dim; ++c) row[c] = row[c] / divisor;
}

// Sixteen partial sums, by column modulo 16, whatever the width of a vector; then halves are added.
float Dot(const float* a, const float* b, size_t dim) {
  const hn::CappedTag<float, 4> d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float sums[16] = {};
  const size_t whole = dim / 16 * 16;
  for (size_t k = 0; k < 16 && whole > 0; k += lanes) {
    auto sum = hn::Zero(d);
    for (size_t c = k; c < whole; c += 16) {
      sum = hn::Add(sum, hn::Mul(hn::LoadU(d, a + c), hn::LoadU(d, b + c)));
    }
    hn::StoreU(sum, d, sums + k);
  }
  for (size_t c = whole; c < dim; ++c) sums[c - whole] = sums[c - whole] + a[c] * b[c];
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t k = 0; k < half; ++k) sums[k] = sums[k] + sums[k + half];
  }
  return sums[0];
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/pool_bags.h"
#include "mxrec/options.h"
#include "mxrec/runtime.h"
#include "util/prefetch.h"
#include "util/worker_pool.h"

namespace mxrec {

std::optional<Combiner> CombinerFromName(std::string_view name) {
  if (name == "sum") return Combiner::kSum;
  if (name == "mean") return Combiner::kMean;
  if (name == "sqrtn") return Combiner::kSqrtN;
  return std::nullopt;
}

Status Validate(const Bags& bags, size_t occurrences) {
  if (bags.offsets.empty()) {
    return InvalidArgument(
        "offsets is empty; it holds one element more than there are bags, from 0 to the number of "
        "keys");
  }
  const std::span<const int64_t> offsets = bags.offsets;
  if (offsets.front() != 0 || offsets.back() != static_cast<int64_t>(occurrences)) {
    return InvalidArgument("offsets goes from " + std::to_string(offsets.front()) + " to " +
                           std::to_string(offsets.back()) + "; it must go from 0 to " +
                           std::to_string(occurrences) + ", the number of keys");
  }
  constexpr auto kMaxBags = static_cast<size_t>(std::numeric_limits<int32_t>::max());
  if (bags.size() > kMaxBags) {
    return InvalidArgument("offsets has " + std::to_string(bags.size()) + " bags, at most " +
                           std::to_string(kMaxBags) + " are allowed in one call");
  }
  const auto descent = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (descent == offsets.end()) return {};
  return InvalidArgument("offsets[" + std::to_string(descent + 1 - offsets.begin()) + "] is " +
                         std::to_string(descent[1]) + " after " + std::to_string(descent[0]) +
                         "; offsets must not descend");
}

namespace kernels {
namespace {

HWY_EXPORT(AddRows);
HWY_EXPORT(ClearOneRow);
HWY_EXPORT(DivideRow);
HWY_EXPORT(Dot);

// Floats below which a thread's start costs more than its work.
constexpr size_t kGrainFloats = size_t{1} << 15;

// In double: a float would stop counting at 2^24.
struct Divisor {
  double squared = 1.0;
  double value = 1.0;
};

Divisor DivisorOf(const Bags& bags, size_t b) {
  if (bags.combiner == Combiner::kSum) return {};
  const bool squares = bags.combiner == Combiner::kSqrtN;
  double total = static_cast<double>(bags.offsets[b + 1] - bags.offsets[b]);
  if (bags.weights != nullptr) {
    total = 0.0;
    for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
      const auto weight = static_cast<double>(bags.weights[i]);
      total += squares ? weight * weight : weight;
    }
  }
  return squares ? Divisor{total, std::sqrt(total)} : Divisor{total * total, total};
}

// The first bag b with offsets[b] + b >= work: splits bags by the work that they are, an empty bag
// included.
size_t BagAt(const Bags& bags, size_t work) {
  size_t low = 0, high = bags.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (static_cast<size_t>(bags.offsets[middle]) + middle < work) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// range(first, last) on all bags, from several threads.
void ForBags(const Bags& bags, size_t dim, const std::function<void(size_t, size_t)>& range) {
  const size_t grain = std::max<size_t>(1, kGrainFloats / dim);
  WorkerPool::Get().RunRanges(
      bags.occurrences() + bags.size(), grain, [&](size_t begin, size_t end) {
        const size_t last =
            end == bags.occurrences() + bags.size() ? bags.size() : BagAt(bags, end);
        range(BagAt(bags, begin), last);
      });
}

// Pools bag after bag as their rows arrive.
class BagSums {
 public:
  BagSums(const Bags& bags, size_t dim, size_t first, float* out)
      : bags_(bags), dim_(dim), bag_(first), out_(out) {
    clear_(dim_, Row());
  }
  // The rows of the occurrences [begin, begin + n), which follow those of the call before.
  void Add(size_t begin, size_t n, const float* const* rows) {
    for (size_t done = 0; done < n;) {
      const size_t here = begin + done;
      while (End() == here) Next();
      const size_t run = std::min(n - done, End() - here);
      add_(rows + done, bags_.weights == nullptr ? nullptr : bags_.weights + here, run, dim_,
           Row());
      done += run;
    }
  }
  // Bags up to `last` have no more rows.
  void Finish(size_t last) {
    while (bag_ + 1 < last) Next();
    Divide();
  }

 private:
  float* Row() { return out_ + bag_ * dim_; }
  size_t End() const { return static_cast<size_t>(bags_.offsets[bag_ + 1]); }
  void Divide() {
    if (bags_.combiner == Combiner::kSum) return;
    const auto divisor = static_cast<float>(DivisorOf(bags_, bag_).value);
    if (divisor == 0.0f) {
      clear_(dim_, Row());
    } else {
      divide_(divisor, dim_, Row());
    }
  }
  void Next() {
    Divide();
    ++bag_;
    clear_(dim_, Row());
  }

  std::decay_t<decltype(HWY_DYNAMIC_DISPATCH(AddRows))> const add_ = HWY_DYNAMIC_DISPATCH(AddRows);
  std::decay_t<decltype(HWY_DYNAMIC_DISPATCH(ClearOneRow))> const clear_ =
      HWY_DYNAMIC_DISPATCH(ClearOneRow);
  std::decay_t<decltype(HWY_DYNAMIC_DISPATCH(DivideRow))> const divide_ =
      HWY_DYNAMIC_DISPATCH(DivideRow);
  const Bags& bags_;
  const size_t dim_;
  size_t bag_;
  float* const out_;
};

// Rows by index, for negative ones zeros.
class IndexedRows {
 public:
  IndexedRows(const float* rows, const int32_t* inverse, size_t dim)
      : rows_(rows), inverse_(inverse), dim_(dim), zeros_(dim, 0.0f) {}
  const float* of(size_t i) const {
    return inverse_[i] < 0 ? zeros_.data() : rows_ + static_cast<size_t>(inverse_[i]) * dim_;
  }
  void Find(size_t begin, size_t n, const float** rows) const {
    for (size_t j = 0; j < n; ++j) {
      rows[j] = of(begin + j);
      PrefetchRange(rows[j], dim_ * sizeof(float));
    }
  }

 private:
  const float* rows_;
  const int32_t* inverse_;
  size_t dim_;
  std::vector<float> zeros_;
};

// Bags by row: row j's occurrences, what their gradients are multiplied with, and their bags.
struct Transposed {
  std::vector<int64_t> offsets;          // [u + 1]
  std::unique_ptr<int32_t[]> bag_of;     // [occurrences with a row]
  std::unique_ptr<float[]> coefficient;  // the same; null: all 1

  Transposed(const int32_t* inverse, const Bags& bags, size_t u) : offsets(u + 1, 0) {
    for (size_t i = 0; i < bags.occurrences(); ++i) {
      if (Counts(inverse[i], u)) ++offsets[static_cast<size_t>(inverse[i]) + 1];
    }
    for (size_t j = 0; j < u; ++j) offsets[j + 1] += offsets[j];
    const auto total = static_cast<size_t>(offsets[u]);
    bag_of = std::make_unique_for_overwrite<int32_t[]>(total);
    const bool ones = bags.combiner == Combiner::kSum && bags.weights == nullptr;
    if (!ones) coefficient = std::make_unique_for_overwrite<float[]>(total);
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    for (size_t b = 0; b < bags.size(); ++b) {
      const double divisor = DivisorOf(bags, b).value;
      for (int64_t i = bags.offsets[b]; i < bags.offsets[b + 1]; ++i) {
        if (!Counts(inverse[i], u)) continue;
        const int64_t to = next[static_cast<size_t>(inverse[i])]++;
        bag_of[to] = static_cast<int32_t>(b);
        if (ones) continue;
        const float weight = bags.weights == nullptr ? 1.0f : bags.weights[i];
        const auto by = static_cast<float>(divisor);
        coefficient[to] = by == 0.0f ? 0.0f : weight / by;
      }
    }
  }
  static bool Counts(int32_t index, size_t u) {
    return index >= 0 && static_cast<size_t>(index) < u;
  }
};

}  // namespace

void PoolBags(const Bags& bags, int dim, const FindRows& find, const LoadRow& load, float* out) {
  const auto width = static_cast<size_t>(dim);
  ForBags(bags, width, [&](size_t first, size_t last) {
    if (first == last) return;
    std::array<const float*, kPoolWindow> rows[2];
    BagSums sums(bags, width, first, out);
    std::array<float, kMaxDim> loaded;
    const auto add = [&](size_t begin, size_t n, const float** of) {
      if (!load) return sums.Add(begin, n, of);
      const size_t most = loaded.size() / width;
      for (size_t done = 0; done < n; done += most) {
        const size_t here = std::min(most, n - done);
        for (size_t k = 0; k < here; ++k) {
          load(of[done + k], &loaded[k * width]);
          of[done + k] = &loaded[k * width];
        }
        sums.Add(begin + done, here, of + done);
      }
    };
    const auto end = static_cast<size_t>(bags.offsets[last]);
    const auto found = [&](size_t i, const float** to) {
      const size_t n = std::min(kPoolWindow, end - i);
      if (n > 0) find(i, n, to);
      return n;
    };
    auto i = static_cast<size_t>(bags.offsets[first]);
    int turn = 0;
    for (size_t n = found(i, rows[0].data()); n > 0; turn ^= 1) {
      const size_t following = found(i + n, rows[turn ^ 1].data());
      add(i, n, rows[turn].data());
      i += n;
      n = following;
    }
    sums.Finish(last);
  });
}

void PoolRows(const float* rows, const int32_t* inverse, const Bags& bags, int dim, float* out) {
  const IndexedRows source(rows, inverse, static_cast<size_t>(dim));
  PoolBags(
      bags, dim, [&](size_t begin, size_t n, const float** found) { source.Find(begin, n, found); },
      nullptr, out);
}

void PooledSegmentSum(const float* grads, const int32_t* inverse, const Bags& bags, size_t u,
                      int dim, float* out) {
  const Transposed by_row(inverse, bags, u);
  PoolRows(grads, by_row.bag_of.get(),
           Bags{.offsets = by_row.offsets, .weights = by_row.coefficient.get()}, dim, out);
}

void PooledWeightGradients(const float* rows, const int32_t* inverse, const Bags& bags,
                           const float* grads, int dim, float* out) {
  const auto width = static_cast<size_t>(dim);
  const IndexedRows source(rows, inverse, width);
  const auto dot = HWY_DYNAMIC_DISPATCH(Dot);
  ForBags(bags, width, [&](size_t first, size_t last) {
    constexpr size_t kAhead = 8;
    for (size_t b = first; b < last; ++b) {
      const auto begin = static_cast<size_t>(bags.offsets[b]);
      const auto end = static_cast<size_t>(bags.offsets[b + 1]);
      const auto weight = [&](size_t i) {
        return bags.weights == nullptr ? 1.0 : static_cast<double>(bags.weights[i]);
      };
      double weighted = 0.0;  // the bag's sum times its gradient
      for (size_t i = begin; i < end; ++i) {
        if (i + kAhead < bags.occurrences()) {
          PrefetchRange(source.of(i + kAhead), width * sizeof(float));
        }
        out[i] = dot(grads + b * width, source.of(i), width);
        weighted += weight(i) * static_cast<double>(out[i]);
      }
      if (bags.combiner == Combiner::kSum) continue;
      const Divisor divisor = DivisorOf(bags, b);
      if (static_cast<float>(divisor.value) == 0.0f) {
        std::fill(out + begin, out + end, 0.0f);
        continue;
      }
      // d(sum / divisor) / dw, where the divisor's own derivative is 1 or w / divisor.
      for (size_t i = begin; i < end; ++i) {
        const double through = bags.combiner == Combiner::kMean ? divisor.value : weight(i);
        out[i] = static_cast<float>(
            (static_cast<double>(out[i]) - weighted * through / divisor.squared) / divisor.value);
      }
    }
  });
}

}  // namespace kernels
}  // namespace mxrec
#endif  // HWY_ONCE
