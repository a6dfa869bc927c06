// Random appends, overwrites, erasures, reads, seals and compactions against a map.
#include <random>

#include "optimizers/random_seed.h"
#include "ssd/ssd_fixture.h"

namespace mxrec::ssd::testing {
namespace {

using ::mxrec::testing::TestSeed;

constexpr int kRuns = 200;

void RunModel(uint64_t seed) {
  SCOPED_TRACE("seed of this run: " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto below = [&](uint64_t n) { return random() % n; };
  const TempDir dir;
  ModelOwner owner;
  LogOptions options = SmallLog(dir.path());
  const uint32_t rows[] = {1, 4, 60, 384, 1500, 5000};
  options.row_bytes = rows[below(std::size(rows))];
  options.metadata_bytes = static_cast<uint32_t>(below(17));
  options.segment_bytes = uint64_t{16 << 10} << below(4);
  options.chunk_bytes = uint64_t{4 << 10} << below(3);
  options.prefer_uring = below(2) == 0;
  options.read_depth = 1 + static_cast<uint32_t>(below(64));
  auto log = MustOpen(Env::Default(), options, &owner);
  ASSERT_NE(log, nullptr);

  const int64_t space = 1 + static_cast<int64_t>(below(options.row_bytes > 1000 ? 200 : 3000));
  const auto draw = [&](size_t most) {
    std::vector<int64_t> keys;
    const size_t count = 1 + below(most);
    for (size_t i = 0; i < count; ++i) {
      keys.push_back(static_cast<int64_t>(below(static_cast<uint64_t>(space))) - space / 2);
    }
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    std::shuffle(keys.begin(), keys.end(), random);
    return keys;
  };
  for (int step = 0; step < 30; ++step) {
    switch (below(10)) {
      case 0:
        owner.Erase(log.get(), draw(static_cast<size_t>(space)));
        break;
      case 1:
        if (below(2) == 0) log->Compact();
        break;
      case 2:
        if (below(3) == 0) {
          ASSERT_TRUE(log->Seal().ok());
        }
        break;
      case 3:
      case 4:
      case 5: {
        const Status status = owner.Get(log.get(), draw(300));
        ASSERT_TRUE(status.ok()) << status.message();
        break;
      }
      default: {
        const std::vector<int64_t> keys = draw(600);
        Status status = log->Pace(keys.size());
        ASSERT_TRUE(status.ok()) << status.message();
        status = owner.Put(log.get(), keys);
        ASSERT_TRUE(status.ok()) << status.message();
      }
    }
  }
  size_t right = 0;
  const Status status = owner.Get(log.get(), owner.Keys(), &right);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(right, owner.index.size());
  log->Compact();  // a record on its way counts twice
  EXPECT_EQ(log->stats().segments.live_records, static_cast<int64_t>(owner.index.size()));
  EXPECT_TRUE(log->TakeBackgroundError().ok());
  const Status closed = log->Close();
  EXPECT_TRUE(closed.ok()) << closed.message();
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SsdLogModel, RandomSequencesEqualAMap) {
  MXREC_TRACE_SEED();
  for (int run = 0; run < kRuns && !::testing::Test::HasFailure(); ++run) {
    RunModel(TestSeed() + static_cast<uint64_t>(run));
  }
}

}  // namespace
}  // namespace mxrec::ssd::testing
