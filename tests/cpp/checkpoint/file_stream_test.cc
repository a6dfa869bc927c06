#include "checkpoint/file_stream.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>

#include "env/fault_env.h"
#include "env/temp_dir.h"

namespace mxrec::checkpoint {
namespace {

using ::mxrec::testing::FaultEnv;
using ::mxrec::testing::TempDir;

constexpr size_t kMebibyte = size_t{1} << 20;

std::string Random(size_t bytes) {
  std::mt19937_64 random(bytes);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

void Write(const std::string& path, const std::string& text) {
  auto file = Env::Default()->NewWritableFile(path);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file.value()->Append(text.data(), text.size()).ok());
  ASSERT_TRUE(file.value()->Close().ok());
}

TEST(FileStream, ViewsAreTheFilesBytes) {
  const TempDir dir;
  for (const size_t bytes : {size_t{100}, size_t{4096}, 4 * kMebibyte, 23 * kMebibyte + 77}) {
    const std::string text = Random(bytes);
    Write(dir / "a", text);
    const auto file = ListedFile::Open(Env::Default(), dir / "a", bytes);
    ASSERT_TRUE(file.ok());
    for (uint64_t seed = 0; seed < 6; ++seed) {
      std::mt19937_64 random(seed);
      // Pieces of all sizes, some with bytes between them that nobody wants, some wanted again.
      const size_t most = seed < 3 ? kMebibyte : 9 * kMebibyte;
      uint64_t at = random() % (bytes / 2);
      FileStream stream(&file.value(), at);
      while (at < bytes) {
        const size_t n = std::min<size_t>(bytes - at, 1 + random() % most);
        const auto view = stream.View(at, n);
        ASSERT_TRUE(view.ok()) << view.status().message();
        ASSERT_EQ(std::string_view(view.value(), n), std::string_view(text).substr(at, n));
        at += random() % 4 == 0 ? random() % (2 * n) : n;
      }
    }
  }
}

TEST(FileStream, NothingIsViewedBeyondTheEnd) {
  const TempDir dir;
  Write(dir / "a", Random(10'000));
  const auto file = ListedFile::Open(Env::Default(), dir / "a", 10'000);
  ASSERT_TRUE(file.ok());
  FileStream stream(&file.value(), 0);
  for (const auto& [offset, bytes] :
       {std::pair<uint64_t, size_t>{9'999, 2}, {10'001, 0}, {0, 10'001}, {~uint64_t{0}, 2}}) {
    const auto view = stream.View(offset, bytes);
    EXPECT_EQ(view.status().code(), StatusCode::kDataLoss);
    EXPECT_NE(view.status().message().find(dir / "a"), std::string::npos);
  }
  EXPECT_TRUE(stream.View(0, 10'000).ok());
  EXPECT_TRUE(stream.View(10'000, 0).ok());
}

TEST(FileStream, AFileThatIsCutWhileItIsReadIsDamaged) {
  const TempDir dir;
  const std::string text = Random(40 * kMebibyte);
  Write(dir / "a", text);
  const auto file = ListedFile::Open(Env::Default(), dir / "a", text.size());
  ASSERT_TRUE(file.ok());
  FileStream stream(&file.value(), 0);
  ASSERT_TRUE(stream.View(0, 1000).ok());
  constexpr size_t kCut = 30'000'000;  // further ahead than the thread reads
  ASSERT_EQ(::truncate((dir / "a").c_str(), kCut), 0);
  const auto before = stream.View(kCut - 10'000, 10'000);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(std::string_view(before.value(), 10'000),
            std::string_view(text).substr(kCut - 10'000, 10'000));
  for (int again = 0; again < 2; ++again) {
    const auto view = stream.View(kCut - 10'000, 20'000);
    EXPECT_EQ(view.status().code(), StatusCode::kDataLoss);
    EXPECT_NE(view.status().message().find("byte 30000000"), std::string::npos)
        << view.status().message();
  }
}

TEST(FileStream, AReadThatFailsIsTold) {
  const TempDir dir;
  const std::string text = Random(9 * kMebibyte);
  Write(dir / "a", text);
  FaultEnv env;
  const auto file = ListedFile::Open(&env, dir / "a", text.size());
  ASSERT_TRUE(file.ok());
  env.FailRead(1);
  FileStream stream(&file.value(), 0);
  EXPECT_TRUE(stream.View(0, 4 * kMebibyte).ok());
  for (int again = 0; again < 2; ++again) {
    const auto view = stream.View(3 * kMebibyte, 2 * kMebibyte);
    EXPECT_NE(view.status().message().find("injected fault"), std::string::npos);
  }
}

}  // namespace
}  // namespace mxrec::checkpoint
