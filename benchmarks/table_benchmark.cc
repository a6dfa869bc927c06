// Operations of every adapter over sizes, widths and laws of keys. All keys are drawn before the
// clock starts. Results: keys/s, for growth also the latency of its batches and bytes per row.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "adapters/all.h"
#include "flags.h"
#include "kernels/row_copier.h"
#include "latency.h"
#include "mxrec/runtime.h"
#include "sizes.h"

namespace mxrec::bench {
namespace {

constexpr size_t kBatches = 40;

constexpr const char* kUsage = R"(usage: table_benchmark [FLAG]... [--benchmark_filter=REGEX]...
  --adapters=LIST    of those that --list prints (default: all)
  --operations=LIST  of find, find_or_init, update, erase, growth (default: all)
  --rows=LIST        such as 1e5,1e6,5e6,5e7 (default: 1e5,5e6)
  --dims=LIST        such as 8,16,32,64,128 (default: 32)
  --laws=LIST        such as zipf0.8,zipf1.05,zipf1.2,uniform (default: zipf1.05,uniform)
  --batch=N          keys of a call (default: 65536)
  --threads=N        default: the processors that this process may use
  --streaming=BYTES  outputs from this size on are written past the caches (default: the machine's)
  --list             print the adapters and stop
The benchmarks are the product of the lists. What would not fit into memory is skipped. Flags of
Google Benchmark, such as --benchmark_min_time=5 and --benchmark_out=FILE, are taken as well.
)";

struct Shape {
  int64_t rows;
  int dim;
  size_t batch;
};

void CountKeys(benchmark::State& state, int64_t keys) {
  state.counters["keys/s"] =
      benchmark::Counter(static_cast<double>(keys), benchmark::Counter::kIsRate);
}

// A table that has every key, kept from one benchmark to the next of the same shape.
template <typename Adapter>
class Filled {
 public:
  static std::shared_ptr<Adapter> Get(const Shape& shape) {
    if (held_ == nullptr || rows_ != shape.rows || dim_ != shape.dim) {
      Release();
      held_ = std::make_shared<Adapter>(AdapterOptions{shape.dim, shape.rows});
      rows_ = shape.rows;
      dim_ = shape.dim;
      const auto step = static_cast<int64_t>(shape.batch);
      const std::vector<float> values(shape.batch * static_cast<size_t>(shape.dim), kInitialValue);
      for (int64_t begin = 0; begin < shape.rows; begin += step) {
        held_->Insert(KeysOfRanks(begin, std::min(shape.rows, begin + step)), values.data());
      }
    }
    return held_;
  }
  static void Release() { held_.reset(); }

 private:
  static inline std::shared_ptr<Adapter> held_;
  static inline int64_t rows_ = 0;
  static inline int dim_ = 0;
};

// Only one table stands at a time: two of the largest may not fit.
void ReleaseAll() {
  ForEachAdapter(AllAdapters(),
                 []<typename Adapter>(std::type_identity<Adapter>) { Filled<Adapter>::Release(); });
}

template <typename Adapter>
std::shared_ptr<Adapter> OnlyTable(const Shape& shape) {
  ForEachAdapter(AllAdapters(), []<typename Other>(std::type_identity<Other>) {
    if constexpr (!std::is_same_v<Other, Adapter>) Filled<Other>::Release();
  });
  return Filled<Adapter>::Get(shape);
}

// call(adapter, keys, buffer) over batches of a law.
template <typename Adapter, typename Call>
void OverLaw(benchmark::State& state, const Shape& shape, Law law, const Call& call) {
  const auto adapter = OnlyTable<Adapter>(shape);
  const std::vector<Batch> batches = DrawKeys(law, shape.rows, shape.batch, kBatches, 1);
  std::vector<float> buffer(shape.batch * static_cast<size_t>(shape.dim), 0.01f);
  size_t next = 0;
  for (auto _ : state) {
    call(*adapter, batches[next], buffer.data());
    benchmark::ClobberMemory();
    next = (next + 1) % kBatches;
  }
  CountKeys(state, state.iterations() * static_cast<int64_t>(shape.batch));
}

// Erases distinct keys; putting them back is not timed.
template <typename Adapter>
void Erase(benchmark::State& state, const Shape& shape) {
  const auto adapter = OnlyTable<Adapter>(shape);
  const auto size = std::min(static_cast<int64_t>(shape.batch), shape.rows);
  const std::vector<float> values(static_cast<size_t>(size * shape.dim), kInitialValue);
  // A stride that shares no factor with a power of ten or two spreads the batches over the ranks.
  constexpr int64_t kStride = 2'654'435'761;
  int64_t rank = 0;
  for (auto _ : state) {
    Batch keys(static_cast<size_t>(size));
    for (int64_t& key : keys) {
      key = KeyOfRank(rank);
      rank = (rank + kStride) % shape.rows;
    }
    const Stopwatch watch;
    const int64_t erased = adapter->Erase(keys);
    state.SetIterationTime(watch.Seconds());
    adapter->Insert(keys, values.data());
    if (erased != size) {
      state.SkipWithError(
          "rows are missing, or keys repeat: choose --rows without the factor "
          "2654435761");
      break;
    }
  }
  CountKeys(state, state.iterations() * size);
}

// Grows a table from nothing; one iteration is the whole growth.
template <typename Adapter>
void Growth(benchmark::State& state, const Shape& shape) {
  ReleaseAll();
  std::vector<double> latencies;
  double bytes = 0.0;
  for (auto _ : state) {
    TouchMemory(NeededBytes(shape.rows, 2 * shape.dim, std::is_same_v<Adapter, LibcuckooMap>));
    const int64_t before = ResidentBytes();
    Adapter adapter(AdapterOptions{shape.dim, shape.rows});
    const std::vector<double> grown =
        Grow(adapter, shape.rows, shape.dim, static_cast<int64_t>(shape.batch), [](int64_t) {});
    bytes = static_cast<double>(ResidentBytes() - before) / static_cast<double>(shape.rows);
    double seconds = 0.0;
    for (const double latency : grown) seconds += latency;
    state.SetIterationTime(seconds);
    latencies.insert(latencies.end(), grown.begin(), grown.end());
  }
  CountKeys(state, state.iterations() * shape.rows);
  state.counters["p50_ms"] = Percentile(latencies, 0.5) * 1e3;
  state.counters["p99_ms"] = Percentile(latencies, 0.99) * 1e3;
  state.counters["p99.9_ms"] = Percentile(latencies, 0.999) * 1e3;
  state.counters["max_ms"] = Percentile(latencies, 1.0) * 1e3;
  state.counters["bytes/row"] = bytes;
  // Beyond the embedding and its accumulator.
  state.counters["overhead/row"] = bytes - 2.0 * sizeof(float) * shape.dim;
}

struct Plan {
  std::vector<std::string> operations;
  std::vector<Law> laws;

  bool Has(std::string_view operation) const { return Contains(operations, operation); }
};

template <typename Call>
benchmark::internal::Benchmark* Add(const std::string& name, const Call& call) {
  return benchmark::RegisterBenchmark(name.c_str(), call)->Unit(benchmark::kMillisecond);
}

template <typename Adapter>
void Register(const Shape& shape, const Plan& plan) {
  const std::string table = std::string(Adapter::kName) + "/rows:" + std::to_string(shape.rows) +
                            "/dim:" + std::to_string(shape.dim);
  const auto add_over_laws = [&](const char* operation, const auto& call) {
    if (!plan.Has(operation)) return;
    for (const Law law : plan.laws) {
      Add(table + "/" + operation + "/" + law.name(), [=](benchmark::State& state) {
        OverLaw<Adapter>(state, shape, law, call);
      })->UseRealTime();
    }
  };
  add_over_laws("find",
                [](Adapter& adapter, Keys keys, float* buffer) { adapter.Find(keys, buffer); });
  if constexpr (Trainable<Adapter>) {
    add_over_laws("find_or_init", [](Adapter& adapter, Keys keys, float* buffer) {
      adapter.FindOrInit(keys, buffer);
    });
    add_over_laws("update",
                  [](Adapter& adapter, Keys keys, float* buffer) { adapter.Update(keys, buffer); });
    if (plan.Has("erase")) {
      Add(table + "/erase", [=](benchmark::State& state) {
        Erase<Adapter>(state, shape);
      })->UseManualTime();
    }
    if (plan.Has("growth")) {
      Add(table + "/growth", [=](benchmark::State& state) { Growth<Adapter>(state, shape); })
          ->UseManualTime()
          ->Iterations(1);
    }
  }
}

int Main(int argc, char** argv) {
  std::vector<std::string> known;
  ForEachAdapter(AllAdapters(), [&]<typename Adapter>(std::type_identity<Adapter>) {
    known.emplace_back(Adapter::kName);
  });
  std::string all = known.front();
  for (size_t i = 1; i < known.size(); ++i) all += "," + known[i];

  Flags flags(&argc, argv, kUsage);
  benchmark::Initialize(&argc, argv);
  if (flags.Has("list")) {
    for (const std::string& name : known) std::puts(name.c_str());
    return 0;
  }
  const std::vector<std::string> adapters = flags.Texts("adapters", all);
  CheckNames("adapters", adapters, known);
  Plan plan{flags.Texts("operations", "find,find_or_init,update,erase,growth"),
            flags.Laws("laws", "zipf1.05,uniform")};
  CheckNames("operations", plan.operations, {"find", "find_or_init", "update", "erase", "growth"});
  const std::vector<int64_t> sizes = flags.Counts("rows", "1e5,5e6");
  const std::vector<int64_t> dims = flags.Counts("dims", "32");
  const auto batch = static_cast<size_t>(flags.Count("batch", "65536"));
  const int64_t threads = flags.Count("threads", std::to_string(NumThreads()));
  const int64_t streaming =
      flags.Count("streaming", std::to_string(kernels::StreamingThresholdBytes()));
  flags.Finish();
  kernels::SetStreamingThresholdBytes(static_cast<size_t>(streaming));
  if (const Status status = SetNumThreads(static_cast<int>(threads)); !status.ok()) {
    std::fprintf(stderr, "benchmark: --threads: %s\n", status.message().c_str());
    return 2;
  }
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("batch", std::to_string(batch));
  benchmark::AddCustomContext("streaming", std::to_string(streaming));
  benchmark::AddCustomContext("compiler", MXREC_COMPILER);

  for (const int64_t rows : sizes) {
    for (const int64_t dim : dims) {
      ForEachAdapter(AllAdapters(), [&]<typename Adapter>(std::type_identity<Adapter>) {
        const std::string name = Adapter::kName;
        const Shape shape{rows, static_cast<int>(dim), batch};
        if (!Contains(adapters, name)) return;
        if (!Adapter::Supports(shape.dim)) {
          std::fprintf(stderr, "skipped: %s has no rows of dim %d\n", name.c_str(), shape.dim);
          return;
        }
        const bool in_map = std::is_same_v<Adapter, LibcuckooMap>;
        const std::string what =
            name + ", " + std::to_string(rows) + " rows of dim " + std::to_string(dim);
        if (!Fits(what, NeededBytes(rows, 2 * shape.dim, in_map))) return;
        Register<Adapter>(shape, plan);
      });
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  ReleaseAll();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
