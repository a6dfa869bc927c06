#include "env/fault_env.h"

#include <gtest/gtest.h>

#include <string>

#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

// Eight mutations: directory, file, append, sync, close, rename, directory sync, delete.
Status Mutate(Env* env, const TempDir& dir) {
  MXREC_RETURN_IF_ERROR(env->CreateDir(dir / "d"));
  auto file = env->NewWritableFile(dir / "d/a");
  if (!file.ok()) return file.status();
  MXREC_RETURN_IF_ERROR(file.value()->Append("0123456789", 10));
  MXREC_RETURN_IF_ERROR(file.value()->Sync());
  MXREC_RETURN_IF_ERROR(file.value()->Close());
  MXREC_RETURN_IF_ERROR(env->Rename(dir / "d/a", dir / "d/b"));
  MXREC_RETURN_IF_ERROR(env->SyncDir(dir / "d"));
  return env->DeleteTree(dir / "d");
}

TEST(FaultEnv, CountsAndFailsEachMutation) {
  FaultEnv env;
  {
    const TempDir dir;
    ASSERT_TRUE(Mutate(&env, dir).ok());
    ASSERT_EQ(env.mutations(), 8);
  }
  for (int64_t n = 0; n < 8; ++n) {
    const TempDir dir;
    env.FailMutation(n);
    const Status status = Mutate(&env, dir);
    EXPECT_EQ(status.code(), StatusCode::kIoError) << "operation " << n;
    EXPECT_NE(status.message().find("injected fault"), std::string::npos);
    EXPECT_EQ(env.mutations(), n + 1);
  }
}

TEST(FaultEnv, OnceRecoversAndFromThenOnDoesNot) {
  const TempDir dir;
  FaultEnv env;
  env.FailMutation(0, FaultEnv::Mode::kOnce);
  EXPECT_FALSE(env.CreateDir(dir / "a").ok());
  EXPECT_TRUE(env.CreateDir(dir / "a").ok());
  env.FailMutation(0, FaultEnv::Mode::kFromThenOn);
  EXPECT_FALSE(env.CreateDir(dir / "b").ok());
  EXPECT_FALSE(env.CreateDir(dir / "b").ok());
  EXPECT_FALSE(env.Exists(dir / "b").value());
}

TEST(FaultEnv, AFailedAppendIsTorn) {
  const TempDir dir;
  FaultEnv env;
  env.FailMutation(1);
  auto file = env.NewWritableFile(dir / "a");
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE(file.value()->Append("0123456789", 10).ok());
  ASSERT_TRUE(file.value()->Close().ok());
  EXPECT_EQ(env.NewReadableFile(dir / "a").value()->Size().value(), 5u);
}

TEST(FaultEnv, FailsReads) {
  const TempDir dir;
  FaultEnv env;
  { ASSERT_TRUE(env.NewWritableFile(dir / "a").ok()); }
  const auto read = [&]() -> Status {
    auto file = env.NewReadableFile(dir / "a");
    if (!file.ok()) return file.status();
    if (auto size = file.value()->Size(); !size.ok()) return size.status();
    char byte;
    if (auto n = file.value()->Read(0, 1, &byte); !n.ok()) return n.status();
    if (auto exists = env.Exists(dir / "a"); !exists.ok()) return exists.status();
    return env.List(dir.path()).status();
  };
  env.FailRead(-1);
  ASSERT_TRUE(read().ok());
  ASSERT_EQ(env.reads(), 5);
  for (int64_t n = 0; n < 5; ++n) {
    env.FailRead(n);
    EXPECT_EQ(read().code(), StatusCode::kIoError) << "operation " << n;
  }
}

}  // namespace
}  // namespace mxrec::testing
