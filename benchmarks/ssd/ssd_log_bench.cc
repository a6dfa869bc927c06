// The SSD log beside RocksDB, and both beside what the disk gives: load, reads and
// read-modify-writes of batches of uniform keys by one thread and by many, then endless updates. A
// table on stderr, one JSON document on stdout.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "../flags.h"
#include "../latency.h"
#include "store.h"

namespace mxrec::bench {
namespace {

constexpr const char* kUsage = R"(usage: ssd_log_bench [FLAG]...
  --directory=PATH      where the data goes, on the disk to measure (default: .)
  --rows=N              default: 1e7
  --row-bytes=N         default: 384
  --batch=N             keys of a call (default: 4096)
  --batches=N           of each measurement (default: 50)
  --rounds=N            measurements of each kind, the stores in turn (default: 5)
  --threads=N           that share a batch in the second half (default: 32)
  --updates=N           endless updates, in times the rows (default: 4)
  --rocksdb-updates=N   the same for RocksDB, the first half of them not measured (default: 2)
  --segment-bytes=N     of the log (default: its own choice)
  --rocksdb-cache=N     bytes (default: 268435456, 6 % of 1e7 rows)
  --depth=N             of the disk's own reads (default: 64)
  --pread               the log reads without io_uring
  --only-log            without RocksDB
)";

struct Settings {
  std::string directory;
  int64_t rows, batch, batches, rounds, threads, depth;
  uint32_t row_bytes;
};

// A row says whose it is, so that no store is fast with wrong ones.
void FillRow(int64_t rank, char* row, uint32_t bytes) {
  std::memset(row, static_cast<int>(rank & 0x7F), bytes);
  std::memcpy(row, &rank, std::min<size_t>(sizeof(rank), bytes));
}
void CheckRow(int64_t rank, const char* row) {
  int64_t stored;
  std::memcpy(&stored, row, sizeof(stored));
  if (stored != rank) Fail("row " + std::to_string(rank) + " reads as " + std::to_string(stored));
}

enum class Operation { kRead, kModify };

void RunBatch(Store* store, Operation operation, std::span<const int64_t> ranks, char* rows,
              uint32_t row_bytes) {
  store->Read(ranks, rows);
  for (size_t i = 0; i < ranks.size(); ++i) {
    char* const row = rows + i * row_bytes;
    CheckRow(ranks[i], row);
    if (operation == Operation::kModify) ++row[row_bytes - 1];
  }
  if (operation == Operation::kModify) store->Write(ranks, rows);
}

// Keys/s of batches that `threads` threads share.
double Measure(Store* store, const Settings& s, Operation operation, int64_t threads,
               uint64_t seed) {
  const std::vector<Batch> batches =
      DrawRanks(Law{}, s.rows, static_cast<size_t>(s.batch), static_cast<size_t>(s.batches), seed);
  const size_t share = static_cast<size_t>(s.batch / threads);
  std::barrier barrier(threads + 1);
  std::vector<std::thread> workers;
  for (int64_t t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      std::vector<char> rows(share * s.row_bytes);
      barrier.arrive_and_wait();
      for (const Batch& batch : batches) {
        RunBatch(store, operation, std::span(batch).subspan(static_cast<size_t>(t) * share, share),
                 rows.data(), s.row_bytes);
        barrier.arrive_and_wait();
      }
    });
  }
  barrier.arrive_and_wait();
  const Stopwatch watch;
  for (size_t i = 0; i < batches.size(); ++i) barrier.arrive_and_wait();
  const double seconds = watch.Seconds();
  for (std::thread& worker : workers) worker.join();
  return static_cast<double>(share) * static_cast<double>(threads) *
         static_cast<double>(batches.size()) / seconds;
}

double Load(Store* store, const Settings& s) {
  std::vector<int64_t> ranks;
  std::vector<char> rows(static_cast<size_t>(s.batch) * s.row_bytes);
  double seconds = 0;
  for (int64_t begin = 0; begin < s.rows; begin += s.batch) {
    ranks.clear();
    for (int64_t rank = begin; rank < std::min(s.rows, begin + s.batch); ++rank) {
      FillRow(rank, rows.data() + ranks.size() * s.row_bytes, s.row_bytes);
      ranks.push_back(rank);
    }
    const Stopwatch watch;
    store->Write(ranks, rows.data());
    seconds += watch.Seconds();
  }
  const Stopwatch watch;
  store->Flush();
  return static_cast<double>(s.rows) / (seconds + watch.Seconds());
}

// Updates of uniform keys as fast as the store takes them.
nlohmann::json Churn(Store* store, const Settings& s, int64_t times) {
  const auto total = std::max<int64_t>(2, times * s.rows / s.batch);
  std::vector<char> rows(static_cast<size_t>(s.batch) * s.row_bytes);
  std::vector<double> latencies;
  uint64_t written = 0;
  uint64_t most_space = 0;
  double seconds = 0;
  for (int64_t i = 0; i < total; ++i) {
    if (i == total / 2) written = store->WrittenBytes();
    const Batch ranks = DrawRanks(Law{}, s.rows, static_cast<size_t>(s.batch), 1,
                                  1000 + static_cast<uint64_t>(i))[0];
    for (size_t k = 0; k < ranks.size(); ++k) {
      FillRow(ranks[k], rows.data() + k * s.row_bytes, s.row_bytes);
    }
    const Stopwatch watch;
    store->Write(ranks, rows.data());
    latencies.push_back(watch.Seconds() * 1e3);
    seconds += watch.Seconds();
    if (i >= total / 2) most_space = std::max(most_space, store->SpaceBytes());
  }
  const auto bytes = static_cast<double>(store->WrittenBytes() - written);
  const auto updates = static_cast<double>((total - total / 2) * s.batch);
  const auto payload = static_cast<double>(store->PayloadBytes());
  const double plain = 8.0 + s.row_bytes;
  return {
      {"updates/s", static_cast<double>(total * s.batch) / seconds},
      {"write amplification", bytes / updates / payload},
      {"write amplification, of key and row alone", bytes / updates / plain},
      {"space amplification",
       static_cast<double>(most_space) / static_cast<double>(s.rows) / payload},
      {"space amplification, of key and row alone",
       static_cast<double>(most_space) / static_cast<double>(s.rows) / plain},
      {"p50 ms", Percentile(latencies, 0.5)},
      {"p99 ms", Percentile(latencies, 0.99)},
      {"p99.9 ms", Percentile(latencies, 0.999)},
      {"max ms", Percentile(latencies, 1.0)},
  };
}

double Median(const std::vector<double>& values) { return Percentile(values, 0.5); }

int Main(int argc, char** argv) {
  Flags flags(&argc, argv, kUsage);
  Settings s;
  const std::string parent = flags.Text("directory", ".");
  s.rows = flags.Count("rows", "1e7");
  s.row_bytes = static_cast<uint32_t>(flags.Count("row-bytes", "384"));
  s.batch = flags.Count("batch", "4096");
  s.batches = flags.Count("batches", "50");
  s.rounds = flags.Count("rounds", "5");
  s.threads = flags.Count("threads", "32");
  s.depth = flags.Count("depth", "64");
  const int64_t updates = flags.Count("updates", "4");
  const int64_t rocks_updates = flags.Count("rocksdb-updates", "2");
  const int64_t segment = std::stoll(flags.Text("segment-bytes", "0"));
  const int64_t cache = flags.Count("rocksdb-cache", "268435456");
  const bool pread = flags.Has("pread");
  const bool only_log = flags.Has("only-log");
  flags.Finish();
  if (s.row_bytes < 8 || s.row_bytes > (1 << 20)) Fail("--row-bytes is outside [8, 2^20]");
  if (s.threads > s.batch) Fail("--threads is more than --batch");

  s.directory = parent + "/ssd_log_bench." + std::to_string(::getpid());
  std::filesystem::create_directories(s.directory + "/log");
  std::filesystem::create_directories(s.directory + "/rocksdb");
  nlohmann::json document = {{"rows", s.rows},     {"row bytes", s.row_bytes},
                             {"batch", s.batch},   {"batches", s.batches},
                             {"rounds", s.rounds}, {"threads", s.threads}};
  std::map<std::string, std::unique_ptr<Store>> stores;
  stores["log"] = NewLogStore({.directory = s.directory + "/log",
                               .rows = s.rows,
                               .row_bytes = s.row_bytes,
                               .segment_bytes = segment,
                               .uring = !pread});
  if (!only_log) {
    stores["rocksdb"] = NewRocksStore({.directory = s.directory + "/rocksdb",
                                       .rows = s.rows,
                                       .row_bytes = s.row_bytes,
                                       .cache_bytes = cache});
  }
  DiskProbe probe(s.directory + "/probe", s.rows * (s.row_bytes + 32));

  std::map<std::string, std::map<std::string, std::vector<double>>> rates;  // by kind, by store
  const auto note = [&](const std::string& kind, const std::string& store, double rate) {
    rates[kind][store].push_back(rate);
    std::fprintf(stderr, "%-24s %-8s %12.0f /s\n", kind.c_str(), store.c_str(), rate);
  };
  const auto settle = [&] {
    for (const auto& [name, store] : stores) store->Settle();
  };
  uint64_t seed = 0;
  for (const auto& [name, store] : stores) note("load", name, Load(store.get(), s));
  for (int64_t round = 0; round < s.rounds; ++round) {
    settle();
    note("disk", "disk", probe.ReadsPerSecond(s.batch * s.batches, static_cast<uint32_t>(s.depth)));
    for (const auto operation : {Operation::kRead, Operation::kModify}) {
      for (const int64_t threads : {int64_t{1}, s.threads}) {
        const std::string kind = std::string(operation == Operation::kRead ? "read" : "modify") +
                                 ", " + std::to_string(threads) +
                                 (threads == 1 ? " thread" : " threads");
        ++seed;  // keys of an earlier measurement may be in a cache or a buffer
        for (const auto& [name, store] : stores) {
          settle();
          note(kind, name, Measure(store.get(), s, operation, threads, seed));
        }
      }
    }
  }
  for (const auto& [name, store] : stores) {
    settle();
    document["updates"][name] = Churn(store.get(), s, name == "log" ? updates : rocks_updates);
    document["about"][name] = store->Describe();
  }

  std::fprintf(stderr, "\n%-20s %12s %12s %8s\n", "median /s", "log", "rocksdb", "ratio");
  for (const auto& [kind, by_store] : rates) {
    for (const auto& [name, values] : by_store) document["rates/s"][kind][name] = values;
    if (!by_store.contains("log")) {
      std::fprintf(stderr, "%-20s %12.0f\n", kind.c_str(), Median(by_store.at("disk")));
      continue;
    }
    const double log = Median(by_store.at("log"));
    const double rocks = only_log ? 0.0 : Median(by_store.at("rocksdb"));
    std::fprintf(stderr, "%-20s %12.0f %12.0f", kind.c_str(), log, rocks);
    if (!only_log) {
      std::vector<double> ratios;
      for (size_t i = 0; i < by_store.at("log").size(); ++i) {
        ratios.push_back(by_store.at("log")[i] / by_store.at("rocksdb")[i]);
      }
      document["log / rocksdb"][kind] = Median(ratios);
      std::fprintf(stderr, " %8.2f", Median(ratios));
    }
    if (kind == "read, 1 thread") {
      std::vector<double> shares;
      for (size_t i = 0; i < by_store.at("log").size(); ++i) {
        shares.push_back(by_store.at("log")[i] / rates["disk"]["disk"][i]);
      }
      document["log / disk"] = Median(shares);
      std::fprintf(stderr, "   %.0f %% of the disk", Median(shares) * 100);
    }
    std::fprintf(stderr, "\n");
  }
  for (const auto& [name, churn] : document["updates"].items()) {
    std::fprintf(stderr, "updates, %-10s", name.c_str());
    for (const auto& [what, value] : churn.items()) {
      std::fprintf(stderr, "  %s %.3g", what.c_str(), value.get<double>());
    }
    std::fprintf(stderr, "\n");
  }
  std::puts(document.dump().c_str());
  stores.clear();
  std::filesystem::remove_all(s.directory);
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
