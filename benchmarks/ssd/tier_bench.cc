// Training with most rows on SSD, beside training with all rows in memory and beside what the disk
// allows. Each batch is announced to the table while the one before it trains, as an input pipeline
// does.
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "../flags.h"
#include "../latency.h"
#include "../workload.h"
#include "mxrec/checkpoint.h"
#include "mxrec/table.h"
#include "store.h"

namespace mxrec::bench {
namespace {

constexpr char kUsage[] =
    R"(usage: tier_bench [flags]
  --rows=20000000   rows of the table
  --dim=32          floats of an embedding; LazyAdam adds two slots of as many
  --memory=10       per cent of the rows that memory holds
  --batch=65536     keys of a step
  --warm=60         steps before measuring
  --steps=60        steps measured
  --ahead=2         batches announced ahead; 0 is not a count: use --sync
  --sync            no batch is announced
  --law=zipf1.05    of the keys
  --path=.          directory for the SSD tier
Prints one line of JSON.
)";

struct Setting {
  int64_t rows;
  int dim;
  int64_t memory_rows;  // == rows: all
  std::string path;
  int64_t ahead;
};

void Check(const Status& status) {
  if (!status.ok()) Fail(status.message());
}

std::shared_ptr<Table> NewTable(const Setting& setting) {
  TableOptions options;
  options.name = "tiers";
  options.dim = setting.dim;
  options.optimizer.kind = OptimizerKind::kLazyAdam;
  options.initializer.kind = InitializerKind::kUniform;
  options.memory_rows = setting.memory_rows;
  if (setting.memory_rows < setting.rows) {
    options.ssd_rows = setting.rows;
    options.ssd_paths = {setting.path};
  }
  auto table = Table::Create(options);
  Check(table.status());
  return table.value();
}

class Trainer {
 public:
  Trainer(const Setting& setting, size_t batch)
      : setting_(setting),
        table_(NewTable(setting)),
        grads_(batch * setting.dim, 0.01f),
        rows_(batch * setting.dim) {}

  void Fill() {
    constexpr int64_t kPiece = 65'536;
    for (int64_t begin = 0; begin < setting_.rows; begin += kPiece) {
      const Batch keys = KeysOfRanks(begin, std::min(begin + kPiece, setting_.rows));
      Check(table_->Assign(keys, std::vector<float>(keys.size() * setting_.dim, 0.5f).data()));
    }
  }

  // Seconds of the steps.
  double Run(const std::vector<Batch>& batches) {
    size_t prepared = 0;
    const Stopwatch watch;
    for (size_t i = 0; i < batches.size(); ++i) {
      for (; setting_.ahead > 0 && prepared < std::min(batches.size(), i + 1 + setting_.ahead);
           ++prepared) {
        if (prepared > i || i == 0) Check(table_->Prefetch(batches[prepared]));
      }
      UniqueKeys unique;
      Check(table_->Resolve(batches[i], ResolveMode::kInsert, nullptr, &unique));
      Check(table_->ReadRows(unique.addresses, unique.keys, nullptr, rows_.data()));
      ApplyResult result;
      Check(table_->ApplyToAddresses(unique.addresses, grads_.data(), std::nullopt,
                                     StaleAddress::kFallBack, &result));
    }
    return watch.Seconds();
  }

  const Table& table() const { return *table_; }

 private:
  const Setting setting_;
  std::shared_ptr<Table> table_;
  std::vector<float> grads_;
  std::vector<float> rows_;
};

using Keys = std::unordered_set<int64_t>;

// The keys most frequent in these batches, at most `rows`: those of a cache that has counted all.
Keys MostUsed(const std::vector<Batch>& batches, size_t rows) {
  std::unordered_map<int64_t, int64_t> uses;
  for (const Batch& batch : batches) {
    for (const int64_t key : batch) ++uses[key];
  }
  std::vector<std::pair<int64_t, int64_t>> order;
  order.reserve(uses.size());
  for (const auto& [key, count] : uses) order.emplace_back(count, key);
  if (order.size() > rows) {
    std::ranges::nth_element(order, order.begin() + static_cast<ptrdiff_t>(rows), std::greater<>());
    order.resize(rows);
  }
  Keys kept;
  for (const auto& [count, key] : order) kept.insert(key);
  return kept;
}

// The most probable ones: those of a cache that knows the law.
Keys MostProbable(size_t rows) {
  Keys kept;
  for (size_t rank = 0; rank < rows; ++rank) kept.insert(KeyOfRank(static_cast<int64_t>(rank)));
  return kept;
}

// Distinct keys of a batch, in the mean, that are not kept.
double MissesPerStep(const Keys& kept, const std::vector<Batch>& batches) {
  int64_t misses = 0;
  for (Batch batch : batches) {
    std::ranges::sort(batch);
    const auto again = std::ranges::unique(batch);
    batch.erase(again.begin(), again.end());
    misses += std::ranges::count_if(batch, [&](int64_t key) { return !kept.contains(key); });
  }
  return static_cast<double>(misses) / static_cast<double>(batches.size());
}

int Main(int argc, char** argv) {
  Flags flags(&argc, argv, kUsage);
  const int64_t rows = flags.Count("rows", "20000000");
  const auto dim = static_cast<int>(flags.Count("dim", "32"));
  const int64_t percent = flags.Count("memory", "10");
  const auto batch = static_cast<size_t>(flags.Count("batch", "65536"));
  const auto warm_steps = static_cast<size_t>(flags.Count("warm", "60"));
  const auto steps = static_cast<size_t>(flags.Count("steps", "60"));
  const int64_t ahead = flags.Has("--sync") ? 0 : flags.Count("ahead", "2");
  const Law law = flags.Laws("law", "zipf1.05")[0];
  const std::string path = flags.Text("path", ".");
  flags.Finish();

  const std::vector<Batch> warm = DrawKeys(law, rows, batch, warm_steps, 1);
  const std::vector<Batch> measured = DrawKeys(law, rows, batch, steps, 2);
  nlohmann::json report = {{"rows", rows}, {"batch", batch}, {"law", law.name()}};
  const auto per_second = [&](double seconds) { return static_cast<double>(steps) / seconds; };
  {
    Trainer all(Setting{rows, dim, rows, path, ahead}, batch);
    all.Fill();
    all.Run(warm);
    report["all_in_memory_steps_per_s"] = per_second(all.Run(measured));
  }
  Trainer tiered(Setting{rows, dim, rows * percent / 100, path, ahead}, batch);
  const Stopwatch filling;
  tiered.Fill();
  report["fill_rows_per_s"] = static_cast<double>(rows) / filling.Seconds();
  tiered.Run(warm);
  const TierStats before = *tiered.table().Stats().tiers;
  const double seconds = tiered.Run(measured);
  const TierStats after = *tiered.table().Stats().tiers;
  const auto misses = static_cast<double>(after.promoted - before.promoted);
  const double blocks = static_cast<double>(after.bytes_read - before.bytes_read) / 4096.0;
  const auto from_memory = static_cast<double>(after.promoted_staged - before.promoted_staged);
  report["tiered_steps_per_s"] = per_second(seconds);
  report["misses_per_step"] = misses / static_cast<double>(steps);
  report["staged_share"] = from_memory / misses;
  report["blocks_per_step"] = blocks / static_cast<double>(steps);
  report["rows_per_block"] = misses / blocks;
  report["written_bytes_per_step"] =
      static_cast<double>(after.bytes_written - before.bytes_written) / static_cast<double>(steps);
  report["space"] =
      static_cast<double>(after.bytes_on_disk) / static_cast<double>(after.bytes_live);
  report["memory_rows"] = after.memory_rows;
  report["direct_io"] = after.direct_io;
  report["io_uring"] = after.uses_io_uring;
  const std::string saved = path + "/tier_bench_save";
  const Stopwatch saving;
  const auto save = SaveTable(tiered.table(), saved, 1);
  Check(save.status());
  report["save_rows_per_s"] = static_cast<double>(rows) / saving.Seconds();
  std::filesystem::remove_all(saved);
  const auto in_memory = static_cast<size_t>(rows * percent / 100);
  report["misses_per_step_of_most_used"] = MissesPerStep(MostUsed(warm, in_memory), measured);
  report["misses_per_step_of_most_probable"] = MissesPerStep(MostProbable(in_memory), measured);
  DiskProbe probe(path + "/tier_bench_probe", int64_t{2} << 30);
  const double reads = probe.ReadsPerSecond(200'000, 64);
  report["disk_reads_per_s"] = reads;
  const double allowed = reads * (misses / blocks) / (misses / static_cast<double>(steps));
  report["disk_allows_steps_per_s"] = allowed;
  report["of_bound"] =
      per_second(seconds) / std::min(allowed, report["all_in_memory_steps_per_s"].get<double>());
  std::printf("%s\n", report.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
