// Memory as the system counts it, against what stats() says. Every measurement runs in a process of
// its own, forked before this one has made a table.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <vector>

#include "index/key_hash.h"
#include "mxrec/table.h"

namespace mxrec {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kShadowMemory = true;
#else
constexpr bool kShadowMemory = false;
#endif

constexpr size_t kBatch = 65536;

struct Figures {
  double resident = 0;  // bytes gained since the start
  double stats = 0;     // rows + metadata + index
  double overhead = 0;  // metadata + index
};

double ResidentBytes() {
  double kib = 0;
  FILE* file = std::fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  while (file != nullptr && std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::sscanf(line, "Anonymous: %lf kB", &kib) == 1) break;
  }
  if (file != nullptr) std::fclose(file);
  return kib * 1024;
}

std::shared_ptr<Table> Make(int dim) {
  TableOptions options;
  options.name = "t";
  options.dim = dim;
  options.initializer.kind = InitializerKind::kZeros;
  return Table::Create(options).value();
}

// Calls call(keys) with [begin, end) in batches.
void ForBatches(int64_t begin, int64_t end, const std::function<void(std::span<int64_t>)>& call) {
  std::vector<int64_t> keys(kBatch);
  for (; begin < end; begin += static_cast<int64_t>(kBatch)) {
    const auto n = std::min<size_t>(kBatch, static_cast<size_t>(end - begin));
    std::iota(keys.begin(), keys.end(), begin);
    call(std::span(keys).first(n));
  }
}

class Meter {
 public:
  explicit Meter(int dim) : values_(kBatch * static_cast<size_t>(dim), 1.0f), table_(Make(dim)) {
    // Threads, scratch of a batch, and the allocator's arenas are not the table's.
    const auto other = Make(dim);
    ForBatches(0, 2 * static_cast<int64_t>(kBatch), [&](std::span<int64_t> keys) {
      EXPECT_TRUE(other->Assign(keys, values_.data()).ok());
      EXPECT_TRUE(other->Erase(keys).ok());
    });
    other->Close();
    start_ = ResidentBytes();
  }
  void Assign(int64_t begin, int64_t end) {
    ForBatches(begin, end, [&](std::span<int64_t> keys) {
      EXPECT_TRUE(table_->Assign(keys, values_.data()).ok());
    });
  }
  Table& table() { return *table_; }
  Figures Read() const {
    const TableStats stats = table_->Stats();
    Figures figures;
    figures.resident = ResidentBytes() - start_;
    figures.overhead = static_cast<double>(stats.bytes_metadata + stats.bytes_index);
    figures.stats = static_cast<double>(stats.bytes_rows) + figures.overhead;
    return figures;
  }

 private:
  std::vector<float> values_;
  std::shared_ptr<Table> table_;
  double start_ = 0;
};

// Runs `body` in a child; its figures come back through a pipe.
std::vector<Figures> Measure(const std::function<std::vector<Figures>()>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    const std::vector<Figures> figures = body();
    const auto bytes = static_cast<ssize_t>(figures.size() * sizeof(Figures));
    const bool whole = write(ends[1], figures.data(), figures.size() * sizeof(Figures)) == bytes;
    _exit(whole && !::testing::Test::HasFailure() ? 0 : 1);
  }
  close(ends[1]);
  std::vector<Figures> figures;
  for (Figures one; read(ends[0], &one, sizeof(one)) == static_cast<ssize_t>(sizeof(one));) {
    figures.push_back(one);
  }
  close(ends[0]);
  int status = 1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return figures;
}

void ExpectStatsMatch(const Figures& figures, double slack = 0) {
  EXPECT_GE(figures.stats, 0.95 * figures.resident - slack);
  EXPECT_LE(figures.stats, 1.05 * figures.resident + slack);
}

TEST(TableMemoryTest, IndexAndMetadataTakeAtMost36BytesARow) {
  if (kShadowMemory) GTEST_SKIP() << "sanitizers have memory of their own";
  struct Case {
    int64_t rows;
    int dim;
  };
  for (const auto [rows, dim] : {Case{1'000'000, 8}, Case{2'000'000, 16}, Case{5'000'000, 4}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << dim);
    const auto figures = Measure([&] {
      Meter meter(dim);
      meter.Assign(0, rows);
      return std::vector{meter.Read()};
    });
    ASSERT_EQ(figures.size(), 1u);
    const double n = static_cast<double>(rows);
    const double row_bytes = dim * 4.0;
    std::printf(
        "%lld x %d: %.1f bytes a row resident, %.1f in stats, of them %.1f index and metadata\n",
        static_cast<long long>(rows), dim, figures[0].resident / n, figures[0].stats / n,
        figures[0].overhead / n);
    EXPECT_LE(figures[0].overhead / n, 36.0);
    // All that is not embeddings, and so also what is not yet used of each shard's last slab and of
    // the last huge pages: a few MiB, whatever the size of the table.
    if (rows >= 5'000'000) {
      EXPECT_LE(figures[0].resident / n - row_bytes, 36.0);
    }
    ExpectStatsMatch(figures[0]);
  }
}

TEST(TableMemoryTest, ErasingAllRowsGivesTheMemoryBack) {
  if (kShadowMemory) GTEST_SKIP() << "sanitizers have memory of their own";
  for (int dim : {8, 32}) {
    SCOPED_TRACE(dim);
    constexpr int64_t kRows = 2'000'000;
    const auto figures = Measure([&] {
      Meter meter(dim);
      meter.Assign(0, kRows);
      std::vector<Figures> read = {meter.Read()};
      ForBatches(0, kRows,
                 [&](std::span<int64_t> keys) { EXPECT_TRUE(meter.table().Erase(keys).ok()); });
      for (int batch = 0; batch < 2; ++batch) meter.Assign(0, 1);  // while freed rows rest
      read.push_back(meter.Read());
      meter.Assign(0, kRows);
      read.push_back(meter.Read());
      return read;
    });
    ASSERT_EQ(figures.size(), 3u);
    EXPECT_LE(figures[1].resident, 0.2 * figures[0].resident);
    ExpectStatsMatch(figures[1], 4 << 20);
    EXPECT_LE(figures[2].resident, 1.05 * figures[0].resident);  // and nothing leaks
    ExpectStatsMatch(figures[2]);
  }
}

// Training that meets no new key, or only further erasing, lets freed rows rest as well.
TEST(TableMemoryTest, ErasedRowsGiveTheirMemoryBackWithoutNewOnes) {
  if (kShadowMemory) GTEST_SKIP() << "sanitizers have memory of their own";
  constexpr int64_t kRows = 2'000'000;
  for (const bool train : {true, false}) {
    SCOPED_TRACE(train);
    const auto figures = Measure([&] {
      Meter meter(8);
      meter.Assign(0, kRows + 1);
      std::vector<Figures> read = {meter.Read()};
      ForBatches(0, kRows,
                 [&](std::span<int64_t> keys) { EXPECT_TRUE(meter.table().Erase(keys).ok()); });
      const std::vector<int64_t> last = {kRows};
      std::vector<float> row(8);
      for (int batch = 0; batch < 2; ++batch) {
        if (train) {
          EXPECT_TRUE(meter.table().LookupOrInsert(last, row.data()).ok());
        } else {
          EXPECT_TRUE(meter.table().Erase(std::vector<int64_t>{-1}).ok());
        }
      }
      read.push_back(meter.Read());
      return read;
    });
    ASSERT_EQ(figures.size(), 2u);
    EXPECT_LE(figures[1].resident, 0.2 * figures[0].resident);
    ExpectStatsMatch(figures[1], 4 << 20);
  }
}

TEST(TableMemoryTest, ErasingAtRandomGivesBackIndexMemoryAndRowsOnceSlabsEmpty) {
  if (kShadowMemory) GTEST_SKIP() << "sanitizers have memory of their own";
  constexpr int64_t kRows = 2'000'000;
  const auto figures = Measure([&] {
    Meter meter(8);
    meter.Assign(0, kRows);
    std::vector<Figures> read = {meter.Read()};
    // 95 %, spread over all slabs.
    ForBatches(0, kRows, [&](std::span<int64_t> keys) {
      std::vector<int64_t> gone;
      for (int64_t key : keys) {
        if (HashKey(key) % 20 != 0) gone.push_back(key);
      }
      EXPECT_TRUE(meter.table().Erase(gone).ok());
    });
    for (int batch = 0; batch < 2; ++batch) meter.Assign(0, 1);
    read.push_back(meter.Read());
    meter.Assign(kRows, kRows + kRows / 2);  // new rows take the free slots
    read.push_back(meter.Read());
    return read;
  });
  ASSERT_EQ(figures.size(), 3u);
  // Every slab keeps some rows; the index shrinks to what its segments need.
  EXPECT_LE(figures[1].overhead, 0.6 * figures[0].overhead);
  EXPECT_LE(figures[1].resident, figures[0].resident - 0.25 * figures[0].overhead);
  EXPECT_LE(figures[2].resident, 1.02 * figures[0].resident);
  for (const Figures& one : figures) ExpectStatsMatch(one, 4 << 20);
  std::printf("resident after erasing 95 %%: %.2f of before, index and metadata %.2f\n",
              figures[1].resident / figures[0].resident, figures[1].overhead / figures[0].overhead);
}

}  // namespace
}  // namespace mxrec
