#include "workload.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

namespace mxrec::bench {
namespace {

// Inversion of the continuous law on [1, rows] (Devroye, Non-Uniform Random Variate Generation,
// III.2), rounded down.
class RankDraw {
 public:
  RankDraw(Law law, int64_t rows, uint64_t seed)
      : law_(law),
        rows_(static_cast<double>(rows)),
        power_(1.0 - law.exponent),
        span_(std::pow(rows_, power_) - 1.0),
        random_(seed) {}

  int64_t operator()() {
    const double u = unit_(random_);
    return std::clamp<int64_t>(static_cast<int64_t>(Continuous(u)), 0,
                               static_cast<int64_t>(rows_) - 1);
  }

 private:
  double Continuous(double u) const {
    if (law_.uniform()) return u * rows_;
    if (std::abs(power_) < 1e-9) return std::pow(rows_, u) - 1.0;
    return std::pow(1.0 + u * span_, 1.0 / power_) - 1.0;
  }

  Law law_;
  double rows_, power_, span_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> unit_{0.0, 1.0};
};

}  // namespace

std::string Law::name() const {
  if (uniform()) return "uniform";
  char text[32];
  std::snprintf(text, sizeof(text), "zipf%g", exponent);
  return text;
}

int64_t KeyOfRank(int64_t rank) {
  uint64_t bits = static_cast<uint64_t>(rank) + 1;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
  bits ^= bits >> 31;
  return static_cast<int64_t>(bits >> 1);
}

std::vector<Batch> DrawRanks(Law law, int64_t rows, size_t size, size_t count, uint64_t seed) {
  RankDraw draw(law, rows, seed);
  std::vector<Batch> batches(count, Batch(size));
  for (Batch& batch : batches) std::generate(batch.begin(), batch.end(), std::ref(draw));
  return batches;
}

std::vector<Batch> DrawKeys(Law law, int64_t rows, size_t size, size_t count, uint64_t seed) {
  std::vector<Batch> batches = DrawRanks(law, rows, size, count, seed);
  for (Batch& batch : batches) std::ranges::transform(batch, batch.begin(), KeyOfRank);
  return batches;
}

Batch KeysOfRanks(int64_t begin, int64_t end) {
  Batch keys;
  keys.reserve(static_cast<size_t>(end - begin));
  for (int64_t rank = begin; rank < end; ++rank) keys.push_back(KeyOfRank(rank));
  return keys;
}

}  // namespace mxrec::bench
