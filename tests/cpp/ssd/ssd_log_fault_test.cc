// A short run of a log is repeated with its n-th operation failing, for every n: each error names
// what failed, no read gives a wrong row, and what was acknowledged stays readable. With
// MXREC_TEST_SLOW=1 all kinds of short runs, together more than 2,000.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "env/fault_env.h"
#include "ssd/ssd_fixture.h"

namespace mxrec::ssd::testing {
namespace {

using ::mxrec::testing::FaultEnv;
using Mode = FaultEnv::Mode;

struct ShortRun {
  const char* name;
  uint32_t row_bytes;
  int64_t batch;
  int rounds;
  int paths;  // all but the last one have room for a few segments
  bool uring;
};
constexpr ShortRun kShortRuns[] = {
    {"plain", 60, 150, 6, 1, true},          {"by pread", 60, 150, 6, 1, false},
    {"on two paths", 60, 150, 6, 2, true},   {"on three paths, by pread", 60, 150, 6, 3, false},
    {"of large rows", 3000, 20, 6, 1, true}, {"of small batches", 60, 50, 15, 1, true},
};

bool Slow() {
  const char* const text = std::getenv("MXREC_TEST_SLOW");
  return text != nullptr && std::string(text) == "1";
}

class SsdLogFault : public ::testing::Test {
 protected:
  static constexpr int64_t kKeys = 400;

  static void TearDownTestSuite() {
    std::printf("%lld fault-injected runs\n", static_cast<long long>(all_runs_));
    const bool all_tests = ::testing::UnitTest::GetInstance()->test_to_run_count() ==
                           ::testing::UnitTest::GetInstance()->total_test_count();
    if (Slow() && all_tests) {
      EXPECT_GE(all_runs_, 2000);
    }
  }

  void Note(const Status& status) {
    if (status.ok()) return;
    ++errors_;
    EXPECT_NE(status.message().find("table 'ads'"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(dir_.path()), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("injected fault"), std::string::npos) << status.message();
  }

  LogOptions Options() {
    LogOptions options = SmallLog(dir_.path());
    options.segment_bytes = 16 << 10;
    options.chunk_bytes = 4 << 10;
    options.row_bytes = run_->row_bytes;
    options.prefer_uring = run_->uring;
    for (int i = 1; i < run_->paths; ++i) {
      const std::string first = dir_ / ("limited-" + std::to_string(i));
      std::filesystem::create_directories(first);
      options.paths.insert(options.paths.begin(), {first, 100 << 10});
    }
    return options;
  }

  // The run: inserts, overwrites, erasures and reads, with a few compactions.
  void Run(SsdLog* log, ModelOwner* owner) {
    for (int round = 0; round < run_->rounds; ++round) {
      const int64_t begin = (round * 97) % kKeys;
      Note(log->Pace(static_cast<size_t>(run_->batch)));
      Note(owner->Put(log, Range(begin, std::min<int64_t>(begin + run_->batch, kKeys))));
      Note(owner->Get(log, Range(0, kKeys)));
      if (round == 2) owner->Erase(log, Range(50, 120));
      if (round == 3) Note(log->Seal());
      if (round == 4) log->Compact();
      Note(log->TakeBackgroundError());
    }
  }

  // Everything that the index has is read and right.
  void ExpectAll(SsdLog* log, ModelOwner* owner) {
    size_t right = 0;
    const Status status = owner->Get(log, owner->Keys(), &right);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(right, owner->index.size());
  }

  // The disk is well again: so is the log.
  void ExpectRecovered(SsdLog* log, ModelOwner* owner) {
    ExpectAll(log, owner);
    Status status;
    for (int attempt = 0; attempt < 50; ++attempt) {  // the first tells of the write that failed
      status = log->Pace(100);
      if (status.ok()) status = owner->Put(log, Range(0, 100));
      if (status.ok()) status = log->Seal();
      if (status.ok()) break;
      Note(status);
    }
    EXPECT_TRUE(status.ok()) << status.message();
    (void)log->TakeBackgroundError();
    ExpectAll(log, owner);
    log->Compact();
    ExpectAll(log, owner);
    // Nothing leaks: without live records no sealed segment stays.
    owner->Erase(log, owner->Keys());
    EXPECT_TRUE(log->Seal().ok());
    log->Compact();
    EXPECT_EQ(log->stats().segments.live_records, 0);
    EXPECT_EQ(log->stats().segments.sealed, 0u);
  }

  void Forget() {
    std::filesystem::remove_all(dir_.path());
    std::filesystem::create_directory(dir_.path());
    errors_ = 0;
  }

  int64_t Count(bool reads) {
    FaultEnv env;
    env.FailMutation(-1);
    env.FailRead(-1);
    ModelOwner owner;
    auto log = MustOpen(&env, Options(), &owner);
    Run(log.get(), &owner);
    EXPECT_EQ(errors_, 0);
    EXPECT_TRUE(log->Close().ok());
    return reads ? env.reads() : env.mutations();
  }

  void FailEach(bool reads, Mode mode, StatusCode code) {
    int64_t runs = 0;
    for (const ShortRun& run : kShortRuns) {
      if (&run != kShortRuns && !Slow()) break;
      SCOPED_TRACE(std::string("short run ") + run.name);
      run_ = &run;
      Forget();
      runs += FailEachOf(reads, mode, code);
    }
    RecordProperty("runs", static_cast<int>(runs));
    all_runs_ += runs;
  }

  int64_t FailEachOf(bool reads, Mode mode, StatusCode code) {
    const int64_t operations = Count(reads);
    EXPECT_GT(operations, 20);
    int64_t failed = 0;
    for (int64_t n = 0; n < operations && !HasFailure(); ++n) {
      SCOPED_TRACE((reads ? "read " : "mutation ") + std::to_string(n));
      Forget();
      FaultEnv env;
      env.FailWith(code);
      if (reads) {
        env.FailRead(n, mode);
      } else {
        env.FailMutation(n, mode);
      }
      ModelOwner owner;
      auto log = SsdLog::Open(&env, Options(), &owner);
      if (!log.ok()) {
        Note(log.status());
        ++failed;
        continue;
      }
      Run(log.value().get(), &owner);
      if (!reads && mode == Mode::kFromThenOn) ExpectAll(log.value().get(), &owner);
      env.FailRead(-1);
      env.FailMutation(-1);
      ExpectRecovered(log.value().get(), &owner);
      failed += errors_ > 0 ? 1 : 0;
      const Status closed = log.value()->Close();
      EXPECT_TRUE(closed.ok()) << closed.message();
      EXPECT_TRUE(SegmentFiles(dir_.path()).empty());
    }
    EXPECT_GT(failed, operations / 2) << "of " << operations << ": faults must be heard of";
    return operations;
  }

  static inline int64_t all_runs_ = 0;
  const TempDir dir_;
  const ShortRun* run_ = kShortRuns;
  int errors_ = 0;
};

// Somebody else's leftover, say.
TEST_F(SsdLogFault, ALeftoverThatCannotBeRemovedIsReportedAndLeft) {
  const std::string leftover = dir_ / "mxrec-ssd-1-0123456789abcdef-other";
  std::filesystem::create_directory(leftover);
  for (const bool deleting : {false, true}) {
    FaultEnv env;
    if (deleting) {
      env.FailMutation(0);
    } else {
      env.FailRead(1);  // 0 lists the path, 1 locks what it found
    }
    ModelOwner owner;
    auto log = MustOpen(&env, Options(), &owner);
    ASSERT_NE(log, nullptr);
    EXPECT_TRUE(log->stats().removed_leftovers.empty());
    ASSERT_EQ(log->stats().kept_leftovers.size(), 1u);
    const std::string kept = log->stats().kept_leftovers[0];
    EXPECT_NE(kept.find(leftover), std::string::npos) << kept;
    EXPECT_NE(kept.find("injected fault"), std::string::npos) << kept;
    EXPECT_TRUE(owner.Put(log.get(), Range(0, 100)).ok());
    EXPECT_TRUE(log->Close().ok());
    EXPECT_TRUE(std::filesystem::exists(leftover));
  }
}

// The owner may have nothing to append for a long time.
TEST_F(SsdLogFault, CompactionTriesAFailedWriteAgain) {
  std::vector<int64_t> most;
  for (int64_t key = 0; key < kKeys * 4; ++key) {
    if (key % 4 != 0) most.push_back(key);
  }
  int writes = 0;
  for (int n = 0; n < 8; ++n) {
    SCOPED_TRACE("mutation " + std::to_string(n));
    Forget();
    FaultEnv env;
    ModelOwner owner;
    auto log = MustOpen(&env, Options(), &owner);
    ASSERT_TRUE(owner.Put(log.get(), Range(0, kKeys * 4)).ok());
    ASSERT_TRUE(log->Seal().ok());
    env.FailMutation(n);
    owner.Erase(log.get(), most);
    Status heard;
    for (int i = 0; i < 200 && heard.ok(); ++i) {
      log->Compact();
      heard = log->TakeBackgroundError();
    }
    Note(heard);
    EXPECT_EQ(errors_, 1);
    writes += heard.message().find("write to") != std::string::npos ? 1 : 0;
    for (int i = 0; i < 20 && log->stats().segments.segments > 6; ++i) {
      log->Compact();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_LE(log->stats().segments.segments, 6u);
    ExpectAll(log.get(), &owner);
  }
  EXPECT_GT(writes, 0);
}

// An owner that runs out of memory.
class ThrowingOwner : public ModelOwner {
 public:
  void Moved(std::span<const Move> moves, bool* taken) override {
    if (throws > 0) {
      --throws;
      ModelOwner::Moved(moves.first(moves.size() / 2), taken);
      throw std::bad_alloc();
    }
    ModelOwner::Moved(moves, taken);
  }
  std::atomic<int> throws{2};
};

TEST_F(SsdLogFault, MemoryThatRunsOutInCompactionIsReported) {
  ThrowingOwner owner;
  auto log = MustOpen(Env::Default(), Options(), &owner);
  ASSERT_TRUE(owner.Put(log.get(), Range(0, kKeys * 4)).ok());
  ASSERT_TRUE(log->Seal().ok());
  owner.Erase(log.get(), Range(0, kKeys * 2 + 20));
  while (owner.throws > 0) log->Compact();
  log->Compact();
  const Status heard = log->TakeBackgroundError();
  EXPECT_EQ(heard.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(heard.message().find("table 'ads'"), std::string::npos) << heard.message();
  ExpectAll(log.get(), &owner);
  EXPECT_TRUE(log->Seal().ok());
  log->Compact();
  ExpectRecovered(log.get(), &owner);
}

TEST_F(SsdLogFault, AWriteFailsOnce) { FailEach(false, Mode::kOnce, StatusCode::kIoError); }
TEST_F(SsdLogFault, WritesFailFromThenOn) {
  FailEach(false, Mode::kFromThenOn, StatusCode::kIoError);
}
TEST_F(SsdLogFault, TheDiskIsFullOnce) {
  FailEach(false, Mode::kOnce, StatusCode::kResourceExhausted);
}
TEST_F(SsdLogFault, TheDiskIsFullFromThenOn) {
  FailEach(false, Mode::kFromThenOn, StatusCode::kResourceExhausted);
}
TEST_F(SsdLogFault, AReadFailsOnce) { FailEach(true, Mode::kOnce, StatusCode::kIoError); }
TEST_F(SsdLogFault, ReadsFailFromThenOn) {
  FailEach(true, Mode::kFromThenOn, StatusCode::kIoError);
}

}  // namespace
}  // namespace mxrec::ssd::testing
