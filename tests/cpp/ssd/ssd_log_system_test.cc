// A log on systems that refuse what others have.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "env/posix_error.h"
#include "env/refuse_syscall.h"
#include "ssd/ssd_fixture.h"

namespace mxrec::ssd {
namespace {

using ::mxrec::testing::Refused;
using ::mxrec::testing::WithRefused;
using testing::ModelOwner;
using testing::SmallLog;
using testing::TempDir;

// Keys that fill a few segments, and some of them again.
void Use(SsdLog* log, ModelOwner* owner) {
  std::vector<int64_t> keys(3000);
  std::iota(keys.begin(), keys.end(), 0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(log->Pace(keys.size()).ok());
    const Status put = owner->Put(log, keys);
    ASSERT_TRUE(put.ok()) << put.message();
    const Status sealed = log->Seal();
    ASSERT_TRUE(sealed.ok()) << sealed.message();
    size_t right = 0;
    ASSERT_TRUE(owner->Get(log, keys, &right).ok());
    EXPECT_EQ(right, keys.size());
  }
}

LogStats StatsWithout(const Refused& refused) {
  LogStats stats;
  const bool ran = WithRefused(refused, [&] {
    const TempDir dir;
    ModelOwner owner;
    auto log = SsdLog::Open(Env::Default(), SmallLog(dir.path()), &owner);
    ASSERT_TRUE(log.ok()) << log.status().message();
    Use(log.value().get(), &owner);
    stats = log.value()->stats();
  });
  EXPECT_TRUE(ran) << "no seccomp here";
  return stats;
}

TEST(SsdLogSystem, WithoutIoUringPreadsReadAndTheReasonIsTold) {
  const LogStats stats = StatsWithout({.number = SYS_io_uring_setup, .error = EPERM});
  EXPECT_EQ(stats.read_method, ReadMethod::kPread);
  EXPECT_NE(stats.why_pread.find("Operation not permitted"), std::string::npos) << stats.why_pread;
}

TEST(SsdLogSystem, WithoutDirectIoPagesAreCached) {
  const LogStats stats =
      StatsWithout({.number = SYS_openat, .error = EINVAL, .argument = 2, .bits = O_DIRECT});
  EXPECT_EQ(stats.direct, std::vector<bool>{false});
}

TEST(SsdLogSystem, WithoutFallocateSegmentsAreWrittenOnce) {
  const LogStats stats = StatsWithout({.number = SYS_fallocate, .error = EOPNOTSUPP});
  EXPECT_GT(stats.segments.segments, 1u);
}

// Files beyond the limit that a process has unless it asks for more.
TEST(SsdLogSystem, ALogAsksForMoreOpenFiles) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const TempDir dir;
  ModelOwner owner;
  auto log = SsdLog::Open(Env::Default(), SmallLog(dir.path()), &owner);
  ASSERT_TRUE(log.ok()) << log.status().message();
  rlim_t open = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    open = std::max<rlim_t>(open, std::stoul(entry.path().filename()));
  }
  if (before.rlim_max < open + 100) GTEST_SKIP() << "no more open files allowed";
  const rlimit low = {open + 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  Use(log.value().get(), &owner);
  EXPECT_GT(log.value()->stats().segments.segments, 2u);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(SsdLogSystem, TooManyOpenFilesIsNoFullDisk) {
  const Status status = FromErrno("create", "/ssd/segment-1", EMFILE);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_NE(status.message().find("ulimit -n"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace mxrec::ssd
