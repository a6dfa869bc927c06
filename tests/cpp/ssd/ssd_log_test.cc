#include "ssd/ssd_log.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "optimizers/random_seed.h"
#include "ssd/ssd_fixture.h"

namespace mxrec::ssd::testing {
namespace {

using ::mxrec::testing::TestSeed;

TEST(RecordLayout, TenRecordsOf384BytesFillABlock) {
  const RecordLayout layout(384, 8);
  EXPECT_EQ(layout.record_bytes(), 408u);
  EXPECT_EQ(layout.page_bytes(), 4096u);
  EXPECT_EQ(layout.records_per_page(), 10u);
  EXPECT_EQ(layout.payload_bytes(), 408u);
}

TEST(RecordLayout, PagesHoldWholeRecordsAndWasteLittle) {
  for (uint32_t row = 1; row <= 140000; row = row < 5000 ? row + 1 : row * 5 / 4) {
    const RecordLayout layout(row, 16);
    ASSERT_EQ(layout.page_bytes() % kBlockBytes, 0u);
    const uint32_t used = layout.records_per_page() * layout.record_bytes();
    ASSERT_LE(used, layout.page_bytes());
    ASSERT_GT(layout.records_per_page(), 0u);
    const double most = layout.record_bytes() <= 5000 ? 0.021 : 0.04;
    ASSERT_LE(1.0 - static_cast<double>(used) / layout.page_bytes(), most) << "row of " << row;
    for (uint32_t slot :
         {0u, 1u, layout.records_per_page() - 1, layout.records_per_page(), 1000u}) {
      const uint64_t begin = layout.OffsetOf(slot);
      ASSERT_EQ(begin / layout.page_bytes(),
                (begin + layout.record_bytes() - 1) / layout.page_bytes());
    }
  }
}

TEST(SsdLog, ReadsWhatWasWrittenFromMemoryAndFromTheDisk) {
  for (const bool uring : {true, false}) {
    const TempDir dir;
    ModelOwner owner;
    LogOptions options = SmallLog(dir.path());
    options.prefer_uring = uring;
    auto log = MustOpen(Env::Default(), options, &owner);
    ASSERT_TRUE(owner.Put(log.get(), Range(-50, 3000)).ok());
    ASSERT_TRUE(owner.Get(log.get(), Range(-50, 3000)).ok());
    EXPECT_GT(log->stats().reads.buffered, 0u);
    ASSERT_TRUE(log->Seal().ok());
    const uint64_t before = log->stats().reads.records;
    size_t right = 0;
    ASSERT_TRUE(owner.Get(log.get(), Range(-50, 3000), &right).ok());
    EXPECT_EQ(right, 3050u);
    EXPECT_EQ(log->stats().reads.records - before, 3050u);
    if (!uring) {
      EXPECT_EQ(log->stats().read_method, ReadMethod::kPread);
      EXPECT_EQ(log->stats().why_pread, "io_uring is not wanted");
    }
  }
}

TEST(SsdLog, RowsThatWereStoredTogetherAreReadTogether) {
  const TempDir dir;
  ModelOwner owner;
  LogOptions options = SmallLog(dir.path());
  options.row_bytes = 384;
  options.segment_bytes = 1 << 20;
  auto log = MustOpen(Env::Default(), options, &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, 2000)).ok());
  ASSERT_TRUE(log->Seal().ok());
  ASSERT_TRUE(owner.Get(log.get(), Range(100, 300)).ok());
  EXPECT_LE(log->stats().reads.blocks, 21u);
  EXPECT_LE(log->stats().reads.requests, 2u);
  // Ten keys of one block in any order, twice.
  const uint64_t before = log->stats().reads.blocks;
  ASSERT_TRUE(owner.Get(log.get(), {509, 500, 503, 500, 501, 508, 504}).ok());
  EXPECT_EQ(log->stats().reads.blocks - before, 1u);
  ASSERT_TRUE(owner.Get(log.get(), {5, 1005}).ok());
  EXPECT_EQ(log->stats().reads.blocks - before, 3u);
}

TEST(SsdLog, ABatchLargerThanAllBuffersIsTaken) {
  const TempDir dir;
  ModelOwner owner;
  auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, 20000)).ok());
  ASSERT_TRUE(owner.Get(log.get(), Range(0, 20000)).ok());
}

TEST(SsdLog, UniformUpdatesKeepSpaceAndWritesBounded) {
  MXREC_TRACE_SEED();
  const TempDir dir;
  ModelOwner owner;
  LogOptions options = SmallLog(dir.path());
  options.row_bytes = 384;
  options.segment_bytes = 256 << 10;
  options.chunk_bytes = 64 << 10;
  options.buffer_bytes = 512 << 10;
  auto log = MustOpen(Env::Default(), options, &owner);
  constexpr int64_t kRows = 40000;
  ASSERT_TRUE(owner.Put(log.get(), Range(0, kRows)).ok());
  std::mt19937_64 random(TestSeed());
  uint64_t appended = 0;
  uint64_t written = 0;
  uint64_t most = 0;
  constexpr int kBatches = 500;
  for (int i = 0; i < kBatches; ++i) {
    std::vector<int64_t> keys;
    for (int k = 0; k < 400; ++k) keys.push_back(static_cast<int64_t>(random() % kRows));
    ASSERT_TRUE(log->Pace(keys.size()).ok());
    ASSERT_TRUE(owner.Put(log.get(), keys).ok());
    const LogStats stats = log->stats();
    if (i == kBatches / 2) {
      appended = stats.appended_records;
      written = stats.written_bytes;
    }
    most = std::max(most, stats.path_bytes[0]);
  }
  const LogStats stats = log->stats();
  const double payload = static_cast<double>(stats.payload_bytes);
  const double amplification = static_cast<double>(stats.written_bytes - written) /
                               (static_cast<double>(stats.appended_records - appended) * payload);
  const double space = static_cast<double>(most) / (kRows * payload);
  RecordProperty("write_amplification", std::to_string(amplification));
  RecordProperty("space", std::to_string(space));
  EXPECT_GT(stats.compaction.moved, 0u);
  EXPECT_LT(stats.compaction.refused, stats.compaction.moved / 10);
  // Headers, footers and open segments weigh five times as much as in a log of 512 segments.
  EXPECT_LE(amplification, 2.3);
  EXPECT_LE(static_cast<double>(most),
            1.5 * kRows * payload + 6.0 * static_cast<double>(stats.segment_bytes))
      << "space, and what compaction emptied while a guard kept it";
  ASSERT_TRUE(owner.Get(log.get(), Range(0, kRows)).ok());
}

TEST(SsdLog, AGuardKeepsWhatWasFreed) {
  const TempDir dir;
  ModelOwner owner;
  auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, 1000)).ok());
  ASSERT_TRUE(log->Seal().ok());
  const uint32_t location = owner.index.at(7).location;
  std::vector<char> row(60), expected(60);
  FillBytes(7, owner.index.at(7).version, 2, expected.data(), expected.size());
  {
    const SsdLog::Guard guard = log->Enter();
    owner.Erase(log.get(), Range(0, 1000));
    log->Compact();
    RecordOut read = {.key = 7, .location = location, .row = row.data()};
    ASSERT_TRUE(log->Read(guard, {&read, 1}).ok());
    EXPECT_EQ(row, expected);
    EXPECT_GT(log->stats().segments.retired_bytes, 0u);
  }
  log->Compact();
  EXPECT_EQ(log->stats().segments.retired_bytes, 0u);
  EXPECT_EQ(log->stats().segments.sealed, 0u);
  const SsdLog::Guard guard = log->Enter();
  RecordOut read = {.key = 7, .location = location, .row = row.data()};
  const Status status = log->Read(guard, {&read, 1});
  EXPECT_EQ(status.code(), StatusCode::kInternal) << status.message();
  EXPECT_FALSE(read.ok);
}

TEST(SsdLog, PathsAreFilledInOrderUntilAllAreFull) {
  const TempDir first, second;
  ModelOwner owner;
  LogOptions options = SmallLog(first.path());
  const uint64_t limit = 8 * (40 << 10);
  options.paths = {{first.path(), limit}, {second.path(), limit}};
  auto log = MustOpen(Env::Default(), options, &owner);
  Status status;
  int64_t stored = 0;
  bool filled_first = false;
  while (status.ok() && stored < 100000) {
    if (log->stats().path_bytes[1] > 0) filled_first = true;
    if (!filled_first) {
      EXPECT_EQ(SegmentFiles(second.path()).size(), 0u);
    }
    status = log->Pace(100);
    if (status.ok()) status = owner.Put(log.get(), Range(stored, stored + 100));
    if (status.ok()) stored += 100;
  }
  EXPECT_TRUE(filled_first);
  ASSERT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  for (const std::string& part : {std::string("table 'ads'"), std::string("segment"), first.path(),
                                  second.path(), std::to_string(limit)}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  }
  const LogStats stats = log->stats();
  EXPECT_LE(stats.path_bytes[0], limit);
  EXPECT_LE(stats.path_bytes[1], limit);
  EXPECT_EQ(static_cast<int64_t>(owner.index.size()), stored) << "the refused batch left nothing";
  ASSERT_TRUE(owner.Get(log.get(), owner.Keys()).ok());
  // Overwriting goes on for ever: a full log finds room by compaction.
  owner.Erase(log.get(), Range(0, stored / 2));
  for (int i = 0; i < 200; ++i) {
    const int64_t begin = stored / 2 + (i * 37) % (stored / 2 - 100);
    status = log->Pace(100);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_TRUE(owner.Put(log.get(), Range(begin, begin + 100)).ok());
  }
  ASSERT_TRUE(owner.Get(log.get(), owner.Keys()).ok());
}

TEST(SsdLog, OptionsAndPathsAreChecked) {
  const TempDir dir;
  ModelOwner owner;
  const auto message = [&](const std::function<void(LogOptions*)>& change) {
    LogOptions options = SmallLog(dir.path());
    change(&options);
    const auto log = SsdLog::Open(Env::Default(), options, &owner);
    EXPECT_FALSE(log.ok());
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
    return log.status().message();
  };
  EXPECT_NE(message([](LogOptions* o) { o->row_bytes = 0; }).find("[1, 1048576]"),
            std::string::npos);
  EXPECT_NE(message([](LogOptions* o) { o->metadata_bytes = 17; }).find("[0, 16]"),
            std::string::npos);
  EXPECT_NE(message([](LogOptions* o) { o->max_records = 2000000000; }).find("31 bits"),
            std::string::npos);
  EXPECT_NE(message([](LogOptions* o) { o->segment_bytes = uint64_t{1} << 50; }).find("segment"),
            std::string::npos);
  EXPECT_NE(message([](LogOptions* o) { o->paths.clear(); }).find("no path"), std::string::npos);
  const std::string absent = dir / "absent";
  const std::string text = message([&](LogOptions* o) { o->paths.push_back({absent, 0}); });
  EXPECT_NE(text.find("table 'ads'"), std::string::npos) << text;
  EXPECT_NE(text.find(absent), std::string::npos) << text;
}

TEST(SsdLog, AClosedLogRefusesCallsAndForgivesWhatOutlivesIt) {
  const TempDir dir;
  ModelOwner owner;
  auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, 1000)).ok());
  ASSERT_TRUE(log->Seal().ok());
  {
    const SsdLog::Guard guard = log->Enter();
    const SsdLog::Pins pins = log->Pin();
    ASSERT_FALSE(pins.segments().empty());
    ASSERT_TRUE(log->Close().ok());
    EXPECT_TRUE(pins.Sync(0).code() == StatusCode::kFailedPrecondition);
  }
  ASSERT_TRUE(log->Close().ok());
  const SsdLog::Guard guard = log->Enter();
  std::vector<char> row(60);
  const char metadata[8] = {};
  RecordOut read = {.key = 7, .location = 0, .row = row.data()};
  const RecordIn record = {.key = 7, .metadata = metadata, .row = row.data()};
  uint32_t location = 0;
  for (const Status& status : {log->Read(guard, {&read, 1}), log->Pace(1), log->Seal(),
                               log->Append(guard, {&record, 1}, &location)}) {
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status.message();
    EXPECT_NE(status.message().find("table 'ads'"), std::string::npos) << status.message();
  }
  log->Free({&location, 1});
  log->Compact();
  EXPECT_TRUE(log->Pin().segments().empty());
  EXPECT_EQ(log->stats().segments.segments, 0u);
  EXPECT_TRUE(log->TakeBackgroundError().ok());
}

// Each seal ends a segment early. Such a segment is full by its bytes, and still takes a whole
// one's locations and a descriptor.
TEST(SsdLog, SegmentsThatWereSealedEarlyAreMerged) {
  const TempDir dir;
  ModelOwner owner;
  LogOptions options = SmallLog(dir.path());
  options.segment_bytes = 4 << 20;
  options.chunk_bytes = 64 << 10;
  auto log = MustOpen(Env::Default(), options, &owner);
  const auto share = static_cast<int64_t>(log->stats().segment_records / 8);
  constexpr int64_t kSeals = 40;
  for (int64_t i = 0; i < kSeals; ++i) {
    ASSERT_TRUE(owner.Put(log.get(), Range(i * share, (i + 1) * share)).ok());
    ASSERT_TRUE(log->Seal().ok());
  }
  log->Compact();
  EXPECT_LE(log->stats().segments.segments, 8u) << "5 are full";
  EXPECT_LE(log->stats().compaction.moved, static_cast<uint64_t>(3 * kSeals * share));
  size_t right = 0;
  ASSERT_TRUE(owner.Get(log.get(), owner.Keys(), &right).ok());
  EXPECT_EQ(right, static_cast<size_t>(kSeals * share));
}

TEST(SsdLog, EarlySealsAloneDoNotAddUp) {
  const TempDir dir;
  ModelOwner owner;
  LogOptions options = SmallLog(dir.path());
  options.segment_bytes = 1 << 20;
  options.chunk_bytes = 64 << 10;
  auto log = MustOpen(Env::Default(), options, &owner);
  const auto share = static_cast<int64_t>(log->stats().segment_records / 16);
  for (int64_t i = 0; i < 120; ++i) {
    const int64_t begin = i % 60 * share;
    ASSERT_TRUE(log->Pace(static_cast<size_t>(share)).ok());
    ASSERT_TRUE(owner.Put(log.get(), Range(begin, begin + share)).ok());
    ASSERT_TRUE(log->Seal().ok());
  }
  for (int i = 0; i < 500 && log->stats().segments.segments > 24; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_LE(log->stats().segments.segments, 24u) << "60 hold live records before they are merged";
}

TEST(SsdLog, ALogIsClosedWhileCompactionIsAtWork) {
  const TempDir dir;
  uint64_t moved = 0;
  for (int run = 0; run < 40; ++run) {
    ModelOwner owner;
    auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
    ASSERT_TRUE(owner.Put(log.get(), Range(0, 4000)).ok());
    ASSERT_TRUE(owner.Put(log.get(), Range(run * 50, 3000)).ok());
    std::vector<int64_t> odd;
    for (int64_t key = 1; key < 4000; key += 2) odd.push_back(key);
    owner.Erase(log.get(), odd);
    std::this_thread::sleep_for(std::chrono::microseconds(run * 50));
    moved += log->stats().compaction.moved;
    const Status closed = log->Close();
    ASSERT_TRUE(closed.ok()) << closed.message();
    ASSERT_TRUE(std::filesystem::is_empty(dir.path()));
  }
  EXPECT_GT(moved, 0u);
}

constexpr char kCrashDirectory[] = "MXREC_TEST_CRASH_DIRECTORY";

// The process that the next test starts: it ends without closing its log.
TEST(SsdLogChild, DISABLED_Crashes) {
  const char* const directory = std::getenv(kCrashDirectory);
  if (directory == nullptr) GTEST_SKIP() << "started by another test only";
  ModelOwner lost;
  auto log = SsdLog::Open(Env::Default(), SmallLog(directory), &lost);
  const bool fine =
      log.ok() && lost.Put(log.value().get(), Range(0, 1000)).ok() && log.value()->Seal().ok();
  ::_exit(fine ? 0 : 1);
}

TEST(SsdLog, ACrashedRunIsRemovedAndARunningOneIsNot) {
  const TempDir dir;
  ModelOwner owner;
  auto running = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(owner.Put(running.get(), Range(0, 1000)).ok());
  ASSERT_TRUE(running->Seal().ok());
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv(kCrashDirectory, dir.path().c_str(), 1);
    ::execl("/proc/self/exe", "ssd_log_test", "--gtest_also_run_disabled_tests",
            "--gtest_filter=SsdLogChild.*", nullptr);
    ::_exit(1);
  }
  int state = 0;
  ASSERT_EQ(::waitpid(child, &state, 0), child);
  ASSERT_EQ(WEXITSTATUS(state), 0);
  std::filesystem::create_directory(dir / "mxrec-ssd-notes");
  const auto directories = [&] {
    std::vector<std::string> names = Env::Default()->List(dir.path()).value();
    return names;
  };
  ASSERT_EQ(directories().size(), 3u);
  ModelOwner other;
  auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &other);
  const std::vector<std::string> removed = log->stats().removed_leftovers;
  ASSERT_EQ(removed.size(), 1u);
  EXPECT_NE(removed[0].find("mxrec-ssd-" + std::to_string(child) + "-"), std::string::npos);
  EXPECT_EQ(directories().size(), 3u) << "two running ones, and what is not ours";
  ASSERT_TRUE(owner.Get(running.get(), Range(0, 1000)).ok());
  EXPECT_TRUE(log->Close().ok());
  EXPECT_TRUE(running->Close().ok());
  EXPECT_EQ(directories(), std::vector<std::string>{"mxrec-ssd-notes"});
}

// Rows prove themselves: readers notice a wrong one whatever writers and compaction do.
TEST(SsdLog, ReadersWritersAndCompactionAtTheSameTime) {
  MXREC_TRACE_SEED();
  const TempDir dir;
  ModelOwner owner;
  auto log = MustOpen(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, 4000)).ok());
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 5; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(TestSeed() + static_cast<uint64_t>(t));
      for (int round = 0; t < 2 ? round < 150 : !stop; ++round) {
        std::vector<int64_t> keys;
        for (int k = 0; k < 100; ++k) keys.push_back(static_cast<int64_t>(random() % 4000));
        Status status;
        if (t < 2) {
          status = log->Pace(keys.size());
          if (status.ok()) status = owner.Put(log.get(), keys);
        } else if (t < 4) {
          status = owner.Get(log.get(), keys);
        } else {
          owner.Erase(log.get(), {keys.begin(), keys.begin() + 5});
          if (round % 50 == 0) status = log->Seal();
          if (round % 70 == 0) log->Compact();
          const SsdLog::Pins pins = log->Pin();
          (void)log->stats();
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ASSERT_TRUE(status.ok()) << status.message();
      }
      if (t < 2) stop = true;
    });
  }
  for (std::thread& thread : threads) thread.join();
  log->Compact();
  EXPECT_TRUE(log->TakeBackgroundError().ok());
  size_t right = 0;
  ASSERT_TRUE(owner.Get(log.get(), owner.Keys(), &right).ok());
  EXPECT_EQ(log->stats().segments.live_records, static_cast<int64_t>(right));
  EXPECT_GT(log->stats().compaction.segments, 0u);
}

}  // namespace
}  // namespace mxrec::ssd::testing
