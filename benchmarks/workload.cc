#include "workload.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace mxrec::bench {

int64_t KeyOfRank(int64_t rank) {
  uint64_t bits = static_cast<uint64_t>(rank) + 1;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
  bits ^= bits >> 31;
  return static_cast<int64_t>(bits >> 1);
}

std::vector<Batch> DrawBatches(Distribution distribution, int64_t rows, size_t size, size_t count,
                               uint64_t seed) {
  constexpr double kExponent = 1.0 - 1.05;
  const double span = std::pow(static_cast<double>(rows), kExponent) - 1.0;
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> unit(0.0, 1.0);
  const auto draw_rank = [&]() -> int64_t {
    const double u = unit(random);
    const double rank = distribution == Distribution::kZipf
                            ? std::pow(1.0 + u * span, 1.0 / kExponent) - 1.0
                            : u * static_cast<double>(rows);
    return std::clamp<int64_t>(static_cast<int64_t>(rank), 0, rows - 1);
  };
  std::vector<Batch> batches(count, Batch(size));
  for (Batch& batch : batches) {
    for (int64_t& key : batch) key = KeyOfRank(draw_rank());
  }
  return batches;
}

std::vector<Batch> AllKeys(int64_t rows, size_t size) {
  std::vector<Batch> batches;
  for (int64_t start = 0; start < rows; start += static_cast<int64_t>(size)) {
    const int64_t end = std::min(rows, start + static_cast<int64_t>(size));
    Batch& batch = batches.emplace_back();
    batch.reserve(static_cast<size_t>(end - start));
    for (int64_t rank = start; rank < end; ++rank) batch.push_back(KeyOfRank(rank));
  }
  return batches;
}

}  // namespace mxrec::bench
