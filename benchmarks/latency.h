// Latencies of batches while a table grows.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "workload.h"

namespace mxrec::bench {

class Stopwatch {
 public:
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// The smallest value that `share` of all values do not exceed.
inline double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0.0;
  const double position = std::ceil(share * static_cast<double>(values.size())) - 1.0;
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(std::max(position, 0.0));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

// Inserts the keys of all ranks below `rows` in batches; seconds of each. Keys are made between the
// batches, off the clock, where report(rows so far) is called as well.
template <typename Adapter, typename Report>
std::vector<double> Grow(Adapter& adapter, int64_t rows, int dim, int64_t batch,
                         const Report& report) {
  std::vector<double> latencies;
  std::vector<float> out(static_cast<size_t>(batch * dim));
  for (int64_t begin = 0; begin < rows; begin += batch) {
    const Batch keys = KeysOfRanks(begin, std::min(rows, begin + batch));
    const Stopwatch watch;
    adapter.FindOrInit(keys, out.data());
    latencies.push_back(watch.Seconds());
    report(begin);
  }
  return latencies;
}

}  // namespace mxrec::bench
