// The latency of every batch while a table grows from nothing, as one JSON document on stdout.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adapters/all.h"
#include "flags.h"
#include "latency.h"
#include "memory.h"
#include "sizes.h"

namespace mxrec::bench {
namespace {

constexpr const char* kUsage = R"(usage: growth_benchmark [FLAG]...
  --adapters=LIST  such as mxrec,absl::flat_hash_map (default: mxrec)
  --rows=N         rows at the end (default: 5e7)
  --dim=N          default: 16
  --batch=N        new keys of a call (default: 65536)
)";

template <typename Adapter>
nlohmann::json Measure(int64_t rows, int dim, int64_t batch, int64_t needed) {
  TouchMemory(needed);
  const int64_t before = ResidentBytes();
  Adapter adapter(AdapterOptions{dim, rows});
  Progress progress(Adapter::kName, rows);
  std::vector<double> latencies =
      Grow(adapter, rows, dim, batch, [&](int64_t done) { progress.Update(done); });
  const int64_t resident = ResidentBytes() - before;
  double seconds = 0.0;
  for (double& latency : latencies) {
    seconds += latency;
    latency *= 1e3;
  }
  nlohmann::json result = {
      {"rows", adapter.size()},
      {"Mkeys/s", static_cast<double>(rows) / seconds / 1e6},
      {"p50 ms", Percentile(latencies, 0.5)},
      {"p99 ms", Percentile(latencies, 0.99)},
      {"p99.9 ms", Percentile(latencies, 0.999)},
      {"max ms", Percentile(latencies, 1.0)},
      {"resident bytes", resident},
      {"payload bytes", int64_t{2} * dim * static_cast<int64_t>(sizeof(float)) * rows},
  };
  if constexpr (requires { adapter.HeldBytes(); }) result["stats bytes"] = adapter.HeldBytes();
  result["latencies ms"] = std::move(latencies);
  return result;
}

int Main(int argc, char** argv) {
  std::vector<std::string> known;
  ForEachAdapter(AllAdapters(), [&]<typename Adapter>(std::type_identity<Adapter>) {
    if constexpr (Trainable<Adapter>) known.emplace_back(Adapter::kName);
  });
  Flags flags(&argc, argv, kUsage);
  const std::vector<std::string> adapters = flags.Texts("adapters", "mxrec");
  CheckNames("adapters", adapters, known);
  const int64_t rows = flags.Count("rows", "5e7");
  const auto dim = static_cast<int>(flags.Count("dim", "16"));
  const int64_t batch = flags.Count("batch", "65536");
  flags.Finish();

  nlohmann::json results = nlohmann::json::object();
  ForEachAdapter(AllAdapters(), [&]<typename Adapter>(std::type_identity<Adapter>) {
    if constexpr (Trainable<Adapter>) {
      const std::string name = Adapter::kName;
      if (!Contains(adapters, name) || !Adapter::Supports(dim)) return;
      const bool in_map = std::is_same_v<Adapter, LibcuckooMap>;
      const int64_t needed = NeededBytes(rows, 2 * dim, in_map);
      if (!Fits(name, needed)) return;
      results[name] = Measure<Adapter>(rows, dim, batch, needed);
    }
  });
  const nlohmann::json document = {
      {"rows", rows}, {"dim", dim}, {"batch", batch}, {"adapters", results}};
  std::puts(document.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
