// A short run of a log is repeated with its n-th operation failing, for every n: each error names
// what failed, no read gives a wrong row, and what was acknowledged stays readable.
#include <set>

#include "env/fault_env.h"
#include "ssd/ssd_fixture.h"

namespace mxrec::ssd::testing {
namespace {

using ::mxrec::testing::FaultEnv;
using Mode = FaultEnv::Mode;

class SsdLogFault : public ::testing::Test {
 protected:
  static constexpr int64_t kKeys = 400;

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
    return options;
  }

  // The run: inserts, overwrites, erasures and reads, with a few compactions.
  void Run(SsdLog* log, ModelOwner* owner) {
    for (int round = 0; round < 6; ++round) {
      const int64_t begin = (round * 97) % kKeys;
      Note(log->Pace(150));
      Note(owner->Put(log, Range(begin, std::min<int64_t>(begin + 150, kKeys))));
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
    const int64_t operations = Count(reads);
    ASSERT_GT(operations, 20);
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
      EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
    }
    RecordProperty("runs", static_cast<int>(operations));
    EXPECT_GT(failed, operations / 2) << "of " << operations << ": faults must be heard of";
  }

  const TempDir dir_;
  int errors_ = 0;
};

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
