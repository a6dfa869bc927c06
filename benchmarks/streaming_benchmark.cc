// Where streaming stores pay: read-only lookups with and without them over sizes of the output,
// round by round in one process, as one JSON document on stdout. Ratios above 1: streaming wins.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "adapters/mxrec_table.h"
#include "flags.h"
#include "kernels/row_copier.h"
#include "latency.h"
#include "memory.h"
#include "mxrec/runtime.h"
#include "sizes.h"

namespace mxrec::bench {
namespace {

constexpr const char* kUsage = R"(usage: streaming_benchmark [FLAG]...
  --rows=N        default: 2e6
  --dim=N         default: 32
  --outputs=LIST  MiB of a call's output (default: 1,2,4,8,12,16,24,32,64,128)
  --keys=N        keys of a round, at least (default: 2e6)
  --rounds=N      default: 15
  --threads=N     default: the processors that this process may use
  --laws=LIST     such as zipf1.05,uniform (default: uniform)
)";

// What comes after a lookup reads its output, on all threads.
void ReadAll(std::span<const float> values) {
  std::atomic<uint32_t> sink{0};
  InParallel(values.size(), [&](size_t begin, size_t end) {
    float sums[16] = {};
    for (size_t i = begin; i + 16 <= end; i += 16) {
      for (size_t lane = 0; lane < 16; ++lane) sums[lane] += values[i + lane];
    }
    sink.fetch_add(std::count(std::begin(sums), std::end(sums), 0.0f), std::memory_order_relaxed);
  });
}

int Main(int argc, char** argv) {
  Flags flags(&argc, argv, kUsage);
  const int64_t rows = flags.Count("rows", "2e6");
  const auto dim = static_cast<int>(flags.Count("dim", "32"));
  const std::vector<int64_t> outputs = flags.Counts("outputs", "1,2,4,8,12,16,24,32,64,128");
  const int64_t keys_of_round = flags.Count("keys", "2e6");
  const int64_t rounds = flags.Count("rounds", "15");
  const int64_t threads = flags.Count("threads", std::to_string(NumThreads()));
  const std::vector<Law> laws = flags.Laws("laws", "uniform");
  flags.Finish();
  if (const Status status = SetNumThreads(static_cast<int>(threads)); !status.ok()) {
    std::fprintf(stderr, "benchmark: --threads: %s\n", status.message().c_str());
    return 2;
  }
  if (!Fits("the table", NeededBytes(rows, dim, false))) return 3;

  MxrecWithoutHotKeys table(AdapterOptions{dim, rows, /*trainable=*/false});
  constexpr int64_t kStep = 65536;
  const std::vector<float> values(static_cast<size_t>(kStep * dim), kInitialValue);
  for (int64_t begin = 0; begin < rows; begin += kStep) {
    table.Insert(KeysOfRanks(begin, std::min(rows, begin + kStep)), values.data());
  }

  const nlohmann::json of_machine = kernels::StreamingThresholdBytes();
  nlohmann::json results = nlohmann::json::array();
  for (const Law law : laws) {
    for (const int64_t mib : outputs) {
      const int64_t batch = std::max<int64_t>((mib << 20) / (dim * 4), 1);
      const int64_t calls = std::max<int64_t>((keys_of_round + batch - 1) / batch, 4);
      const auto keys = DrawKeys(law, rows, static_cast<size_t>(batch), calls, 1);
      // Begins at a cache line, as TensorFlow's outputs do; without that nothing streams.
      const auto size = static_cast<size_t>(batch * dim);
      const HugeBuffer buffer(size * sizeof(float));
      const std::span<float> out(buffer.as<float>(), size);
      const auto seconds = [&](bool stream, bool read_after) {
        kernels::SetStreamingThresholdBytes(stream ? 1 : std::numeric_limits<size_t>::max());
        const Stopwatch watch;
        for (const Batch& each : keys) {
          table.Find(each, out.data());
          if (read_after) ReadAll(out);
        }
        return watch.Seconds();
      };
      std::vector<double> lookup, with_reading, rate;
      seconds(false, true);
      seconds(true, true);
      for (int64_t round = 0; round < rounds; ++round) {
        for (const bool read_after : {false, true}) {
          const bool first = round % 2 != 0;  // neither always goes first
          double taken[2];
          taken[first] = seconds(first, read_after);
          taken[!first] = seconds(!first, read_after);
          (read_after ? with_reading : lookup).push_back(taken[false] / taken[true]);
          if (!read_after) rate.push_back(static_cast<double>(batch * calls) / taken[false] / 1e6);
        }
      }
      const auto summary = [](const std::vector<double>& ratios) {
        return nlohmann::json{{"median", Percentile(ratios, 0.5)},
                              {"lowest", Percentile(ratios, 0.0)},
                              {"highest", Percentile(ratios, 1.0)}};
      };
      results.push_back({{"law", law.name()},
                         {"MiB", mib},
                         {"Mkeys/s without", Percentile(rate, 0.5)},
                         {"lookup", summary(lookup)},
                         {"lookup, then read", summary(with_reading)}});
      std::fprintf(stderr, "%s\n", results.back().dump().c_str());
    }
  }
  const nlohmann::json document = {{"rows", rows},
                                   {"dim", dim},
                                   {"threads", threads},
                                   {"threshold of the machine", of_machine},
                                   {"results", results}};
  std::puts(document.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
