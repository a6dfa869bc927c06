#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "env/aligned_bytes.h"
#include "env/env.h"
#include "env/temp_dir.h"

namespace mxrec {
namespace {

using ::mxrec::testing::TempDir;

void Write(const std::string& path, const std::string& text) {
  auto file = Env::Default()->NewWritableFile(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file.value()->Append(text.data(), text.size()).ok());
  ASSERT_TRUE(file.value()->Sync().ok());
  ASSERT_TRUE(file.value()->Close().ok());
  ASSERT_TRUE(file.value()->Close().ok()) << "Close is idempotent";
}

std::string Read(const std::string& path) {
  auto file = Env::Default()->NewReadableFile(path);
  if (!file.ok()) return "cannot open: " + file.status().message();
  std::string text(file.value()->Size().value(), '\0');
  EXPECT_EQ(file.value()->Read(0, text.size(), text.data()).value(), text.size());
  return text;
}

TEST(PosixEnv, WritesAndReadsBack) {
  const TempDir dir;
  Write(dir / "a", "hello, world");
  EXPECT_EQ(Read(dir / "a"), "hello, world");
  Write(dir / "a", "short");
  EXPECT_EQ(Read(dir / "a"), "short") << "an existing file is truncated";
}

TEST(PosixEnv, ReadStopsAtTheEndOfTheFile) {
  const TempDir dir;
  Write(dir / "a", "0123456789");
  auto file = Env::Default()->NewReadableFile(dir / "a");
  ASSERT_TRUE(file.ok());
  char buffer[16] = {};
  EXPECT_EQ(file.value()->Read(7, sizeof(buffer), buffer).value(), 3u);
  EXPECT_EQ(std::string(buffer, 3), "789");
  EXPECT_EQ(file.value()->Read(10, 1, buffer).value(), 0u);
  EXPECT_EQ(file.value()->Read(1000, 1, buffer).value(), 0u);
}

// Bytes that say where they are.
std::string Numbered(size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 2654435761u >> 13);
  return text;
}

// Large files go past the page cache, in whole blocks, whatever the sizes of the pieces.
TEST(PosixEnv, LargeFilesHoldWhatWasAppended) {
  const TempDir dir;
  for (const size_t bytes : {size_t{1} << 20, (size_t{1} << 20) + 1, (size_t{5} << 20) - 4095,
                             (size_t{3} << 20) + 4096}) {
    const std::string text = Numbered(bytes);
    for (const size_t piece : {size_t{999'983}, size_t{4096}, size_t{1} << 20, bytes}) {
      auto file = Env::Default()->NewWritableFile(dir / "a");
      ASSERT_TRUE(file.ok());
      for (size_t at = 0; at < bytes; at += piece) {
        ASSERT_TRUE(file.value()->Append(text.data() + at, std::min(piece, bytes - at)).ok());
      }
      ASSERT_TRUE(file.value()->Close().ok());
      ASSERT_EQ(Read(dir / "a"), text) << bytes << " in pieces of " << piece;
    }
  }
}

TEST(PosixEnv, MoreCanBeAppendedAfterASync) {
  const TempDir dir;
  const std::string text = Numbered(size_t{7} << 20);
  auto file = Env::Default()->NewWritableFile(dir / "a");
  ASSERT_TRUE(file.ok());
  size_t at = 0;
  for (const size_t end : {size_t{100}, size_t{2'000'000}, size_t{5} << 20, text.size()}) {
    ASSERT_TRUE(file.value()->Append(text.data() + at, end - at).ok());
    ASSERT_TRUE(file.value()->Sync().ok());
    ASSERT_EQ(Read(dir / "a"), text.substr(0, end));
    at = end;
  }
  ASSERT_TRUE(file.value()->Close().ok());
}

TEST(PosixEnv, ReadsOfWholeBlocksAreThoseOfBytes) {
  const TempDir dir;
  const std::string text = Numbered((size_t{3} << 20) + 123);
  Write(dir / "a", text);
  auto file = Env::Default()->NewReadableFile(dir / "a");
  ASSERT_TRUE(file.ok());
  const AlignedBytes out(size_t{4} << 20);
  const auto check = [&](uint64_t offset, size_t bytes) {
    const size_t there = std::min<size_t>(bytes, text.size() - std::min(offset, text.size()));
    ASSERT_EQ(file.value()->Read(offset, bytes, out.get()).value(), there) << offset;
    EXPECT_EQ(std::string_view(out.get(), there), std::string_view(text).substr(offset, there));
  };
  for (int round = 0; round < 2; ++round) {  // the first ones leave a part in the page cache
    check(0, size_t{1} << 20);
    check(4096, size_t{4} << 20);
    check(size_t{3} << 20, size_t{1} << 20);
    check(1000, 5000);
    check(12'288, 65'536);
  }
}

TEST(PosixEnv, DirectoriesAreListedSortedAndDeletedWhole) {
  const TempDir dir;
  Env* env = Env::Default();
  ASSERT_TRUE(env->CreateDir(dir / "d").ok());
  ASSERT_TRUE(env->CreateDir(dir / "d").ok()) << "ok if it is there";
  ASSERT_TRUE(env->CreateDir(dir / "d/sub").ok());
  Write(dir / "d/z", "");
  Write(dir / "d/a", "");
  EXPECT_EQ(env->List(dir / "d").value(), (std::vector<std::string>{"a", "sub", "z"}));
  EXPECT_TRUE(env->SyncDir(dir / "d").ok());
  EXPECT_TRUE(env->DeleteTree(dir / "d").ok());
  EXPECT_FALSE(env->Exists(dir / "d").value());
  EXPECT_TRUE(env->DeleteTree(dir / "d").ok()) << "ok if it is not there";
}

TEST(PosixEnv, DeleteTreeDoesNotFollowLinks) {
  const TempDir dir;
  Env* env = Env::Default();
  ASSERT_TRUE(env->CreateDir(dir / "kept").ok());
  Write(dir / "kept/a", "a");
  ASSERT_TRUE(env->CreateDir(dir / "d").ok());
  ASSERT_EQ(::symlink((dir / "kept").c_str(), (dir / "d/link").c_str()), 0);
  ASSERT_TRUE(env->DeleteTree(dir / "d").ok());
  EXPECT_EQ(Read(dir / "kept/a"), "a");
}

TEST(PosixEnv, RenameReplacesAFile) {
  const TempDir dir;
  Write(dir / "a", "new");
  Write(dir / "b", "old");
  ASSERT_TRUE(Env::Default()->Rename(dir / "a", dir / "b").ok());
  EXPECT_EQ(Read(dir / "b"), "new");
  EXPECT_FALSE(Env::Default()->Exists(dir / "a").value());
  EXPECT_TRUE(Env::Default()->DeleteFile(dir / "b").ok());
  EXPECT_FALSE(Env::Default()->Exists(dir / "b").value());
}

TEST(PosixEnv, ErrorsNamePathAndReason) {
  const TempDir dir;
  Env* env = Env::Default();
  const std::string absent = dir / "absent";
  const auto expect = [&](const Status& status, StatusCode code, const std::string& path) {
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_NE(status.message().find(path), std::string::npos) << status.message();
  };
  expect(env->NewReadableFile(absent).status(), StatusCode::kNotFound, absent);
  expect(env->NewWritableFile(absent + "/x").status(), StatusCode::kNotFound, absent + "/x");
  expect(env->List(absent).status(), StatusCode::kNotFound, absent);
  expect(env->CreateDir(absent + "/x"), StatusCode::kNotFound, absent + "/x");
  expect(env->Rename(absent, dir / "b"), StatusCode::kNotFound, absent);
  expect(env->DeleteFile(absent), StatusCode::kNotFound, absent);
  expect(env->SyncDir(absent), StatusCode::kNotFound, absent);
  Write(dir / "file", "");
  expect(env->CreateDir(dir / "file"), StatusCode::kIoError, dir / "file");
  expect(env->List(dir / "file").status(), StatusCode::kIoError, dir / "file");
}

TEST(PosixEnv, RefusesToReadWhatIsNoRegularFile) {
  const TempDir dir;
  Env* env = Env::Default();
  EXPECT_EQ(env->NewReadableFile(dir.path()).status().code(), StatusCode::kIoError);
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(env->NewReadableFile(dir / "pipe").status().code(), StatusCode::kIoError)
      << "and does not wait for a writer";
}

TEST(PosixEnv, AFullDiskIsResourceExhausted) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  auto file = Env::Default()->NewWritableFile("/dev/full");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file.value()->Append("x", 1).ok()) << "kept until there is more";
  for (const Status& status : {file.value()->Sync(), file.value()->Close()}) {
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  }
  file = Env::Default()->NewWritableFile("/dev/full");
  ASSERT_TRUE(file.ok());
  const std::string large(3 << 20, 'x');
  for (int again = 0; again < 2; ++again) {
    const Status status = file.value()->Append(large.data(), large.size());
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  }
  EXPECT_EQ(file.value()->Close().code(), StatusCode::kResourceExhausted);
}

TEST(PosixEnv, AClosedFileRefusesWrites) {
  const TempDir dir;
  auto file = Env::Default()->NewWritableFile(dir / "a");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file.value()->Close().ok());
  EXPECT_EQ(file.value()->Append("x", 1).code(), StatusCode::kIoError);
  EXPECT_EQ(file.value()->Sync().code(), StatusCode::kIoError);
}

TEST(PosixEnv, TheClockGoesForward) {
  const uint64_t year_2020 = 1577836800ull * 1000000;
  const uint64_t first = Env::Default()->NowMicros();
  EXPECT_GT(first, year_2020);
  EXPECT_GE(Env::Default()->NowMicros(), first);
}

}  // namespace
}  // namespace mxrec
