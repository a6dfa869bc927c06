// Lookups, inserts and training steps of a table, through an adapter. All keys are drawn before the
// clock starts. Arguments of a benchmark: rows, dim, distribution (workload.h).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "adapters/table_adapter.h"
#include "adapters/unordered_map_adapter.h"
#include "workload.h"

namespace mxrec::bench {
namespace {

constexpr size_t kBatch = 65536;
constexpr size_t kBatches = 40;

template <typename Adapter>
std::unique_ptr<Adapter> Filled(int64_t rows, int dim) {
  auto adapter = std::make_unique<Adapter>(dim);
  const std::vector<float> values(kBatch * dim, 0.5f);
  for (const Batch& keys : AllKeys(rows, kBatch)) adapter->Insert(keys, values.data());
  return adapter;
}

void CountKeys(benchmark::State& state, int64_t keys) {
  state.counters["keys/s"] =
      benchmark::Counter(static_cast<double>(keys), benchmark::Counter::kIsRate);
}

// Runs `call(adapter, keys, buffer)` on a table that has every key.
template <typename Adapter, typename Call>
void OnFilledTable(benchmark::State& state, Call call) {
  const int64_t rows = state.range(0);
  const int dim = static_cast<int>(state.range(1));
  const auto distribution = static_cast<Distribution>(state.range(2));
  const auto adapter = Filled<Adapter>(rows, dim);
  const std::vector<Batch> batches = DrawBatches(distribution, rows, kBatch, kBatches, 1);
  std::vector<float> buffer(kBatch * dim);
  size_t next = 0;
  for (auto _ : state) {
    call(*adapter, batches[next], buffer.data());
    benchmark::ClobberMemory();
    next = (next + 1) % kBatches;
  }
  CountKeys(state, state.iterations() * static_cast<int64_t>(kBatch));
}

template <typename Adapter>
void Lookup(benchmark::State& state) {
  OnFilledTable<Adapter>(
      state, [](Adapter& adapter, const Batch& keys, float* out) { adapter.Lookup(keys, out); });
}

template <typename Adapter>
void Train(benchmark::State& state) {
  const std::vector<float> grads(kBatch * state.range(1), 0.01f);
  OnFilledTable<Adapter>(state, [&](Adapter& adapter, const Batch& keys, float* out) {
    adapter.Train(keys, grads.data(), out);
  });
}

// Grows a table from nothing; one iteration is the whole growth. Making and freeing the table is
// not timed.
template <typename Adapter>
void Insert(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  const int64_t rows = state.range(0);
  const int dim = static_cast<int>(state.range(1));
  const std::vector<Batch> batches = AllKeys(rows, kBatch);
  const std::vector<float> values(kBatch * dim, 0.5f);
  double worst = 0.0;
  for (auto _ : state) {
    Adapter adapter(dim);
    double total = 0.0;
    for (const Batch& keys : batches) {
      const Clock::time_point start = Clock::now();
      adapter.Insert(keys, values.data());
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      total += seconds;
      worst = std::max(worst, seconds);
    }
    state.SetIterationTime(total);
  }
  CountKeys(state, state.iterations() * rows);
  state.counters["worst_batch_ms"] = worst * 1e3;
}

template <typename Adapter>
void Register() {
  const std::string name = Adapter::kName;
  const auto zipf = static_cast<int64_t>(Distribution::kZipf);
  const auto uniform = static_cast<int64_t>(Distribution::kUniform);
  const auto common = [](auto* b) { b->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime(); };
  for (const int64_t rows : {100'000, 5'000'000}) {
    for (const int64_t law : {zipf, uniform}) {
      common(benchmark::RegisterBenchmark((name + "/lookup").c_str(), Lookup<Adapter>)
                 ->Args({rows, 32, law})
                 ->ArgNames({"rows", "dim", "zipf"})
                 ->UseRealTime());
      common(benchmark::RegisterBenchmark((name + "/train").c_str(), Train<Adapter>)
                 ->Args({rows, 32, law})
                 ->ArgNames({"rows", "dim", "zipf"})
                 ->UseRealTime());
    }
    common(benchmark::RegisterBenchmark((name + "/insert").c_str(), Insert<Adapter>)
               ->Args({rows, 32})
               ->ArgNames({"rows", "dim"})
               ->UseManualTime());
  }
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) {
  mxrec::bench::Register<mxrec::bench::TableAdapter>();
  mxrec::bench::Register<mxrec::bench::UnorderedMapAdapter>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
