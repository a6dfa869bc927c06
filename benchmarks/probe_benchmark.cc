// Read-only lookups of mxrec beside what memory allows (adapters/hash_gather.h), round by round in
// one process, as one JSON document on stdout: million keys per second of each round.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adapters/hash_gather.h"
#include "adapters/mxrec_table.h"
#include "flags.h"
#include "latency.h"
#include "sizes.h"

namespace mxrec::bench {
namespace {

constexpr const char* kUsage = R"(usage: probe_benchmark [FLAG]...
  --rows=N      default: 5e7
  --dim=N       a multiple of 8 (default: 16)
  --batch=N     keys of a call (default: 65536)
  --batches=N   calls of a round (default: 60)
  --rounds=N    default: 5
  --laws=LIST   such as zipf1.05,uniform (default: uniform)
)";

struct Contender {
  const char* name;
  std::function<void(size_t)> read;  // batch b into the buffer
};

int Main(int argc, char** argv) {
  Flags flags(&argc, argv, kUsage);
  const int64_t rows = flags.Count("rows", "5e7");
  const auto dim = static_cast<int>(flags.Count("dim", "16"));
  const int64_t batch = flags.Count("batch", "65536");
  const auto batches = static_cast<size_t>(flags.Count("batches", "60"));
  const int64_t rounds = flags.Count("rounds", "5");
  const std::vector<Law> laws = flags.Laws("laws", "uniform");
  flags.Finish();
  if (!HashGather::Supports(dim)) {
    std::fprintf(stderr, "benchmark: --dim=%d: expected a multiple of 8\n", dim);
    return 2;
  }
  // Both tables stand together.
  const int64_t needed = NeededBytes(rows, dim, false);
  if (!Fits("mxrec beside hash+gather", 2 * needed)) return 3;

  const AdapterOptions options{dim, rows, /*trainable=*/false};
  MxrecTable table(options);
  HashGather probe(options);
  Progress filling("filling the tables", rows);
  const auto size = static_cast<size_t>(batch * dim);
  std::vector<float> out(size), expected(size);
  for (int64_t begin = 0; begin < rows; begin += batch) {
    const Batch keys = KeysOfRanks(begin, std::min(rows, begin + batch));
    for (size_t i = 0; i < keys.size() * dim; ++i) out[i] = static_cast<float>(keys[i / dim] % 977);
    table.Insert(keys, out.data());
    probe.Insert(keys, out.data());
    filling.Update(begin);
  }

  nlohmann::json results = nlohmann::json::object();
  for (const Law law : laws) {
    const auto ranks = DrawRanks(law, rows, static_cast<size_t>(batch), batches, 1);
    const auto keys = DrawKeys(law, rows, static_cast<size_t>(batch), batches, 1);
    table.Find(keys.front(), expected.data());
    probe.Find(keys.front(), out.data());
    if (std::memcmp(out.data(), expected.data(), size * sizeof(float)) != 0) {
      std::fprintf(stderr, "benchmark: mxrec and hash+gather read different rows\n");
      return 1;
    }
    std::vector<Contender> order = {
        {"mxrec", [&](size_t b) { table.Find(keys[b], out.data()); }},
        {"hash+gather", [&](size_t b) { probe.Find(keys[b], out.data()); }},
        {"known rows", [&](size_t b) { probe.Gather(ranks[b], out.data()); }},
    };
    nlohmann::json& figures = results[law.name()];
    Progress measuring(law.name(), rounds);
    for (int64_t round = 0; round < rounds; ++round) {
      for (const Contender& contender : order) {
        contender.read(0);
        const Stopwatch watch;
        for (size_t b = 0; b < batches; ++b) contender.read(b);
        const double keys_read = static_cast<double>(batch) * static_cast<double>(batches);
        figures[contender.name].push_back(keys_read / watch.Seconds() / 1e6);
      }
      std::ranges::reverse(order);  // nobody always goes first
      measuring.Update(round + 1);
    }
  }
  const nlohmann::json document = {
      {"rows", rows}, {"dim", dim}, {"batch", batch}, {"unit", "Mkeys/s"}, {"laws", results}};
  std::puts(document.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace mxrec::bench

int main(int argc, char** argv) { return mxrec::bench::Main(argc, argv); }
