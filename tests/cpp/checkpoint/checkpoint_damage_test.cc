// Damaged checkpoints: an error that names file and byte, and a table that is as it was.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/checksum.h"
#include "checkpoint/format.h"
#include "checkpoint/save.h"
#include "env/fault_env.h"
#include "env/temp_dir.h"

namespace mxrec::testing {
namespace {

class Damage : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto table = MakeTable(Options(OptimizerKind::kAdagrad));
    Train(table.get(), kRows, 7);
    const auto saved = checkpoint::SaveWithLimits(*table, path_, 1, Env::Default(),
                                                  {.block_bytes = 1024, .part_bytes = 6000});
    ASSERT_TRUE(saved.ok()) << saved.status().message();
    target_ = MakeTable(Options(OptimizerKind::kAdagrad, 2));
    Train(target_.get(), 50, 8);
    unchanged_ = std::make_unique<Unchanged>(*target_);
  }

  void ExpectDataLoss(const std::string& file, const std::string& what) {
    const auto result = RestoreTable(target_.get(), path_);
    ASSERT_EQ(result.status().code(), StatusCode::kDataLoss)
        << what << ": " << result.status().message();
    ASSERT_EQ(result.status().message().rfind(path_ + "/" + file + ": damaged at byte ", 0), 0u)
        << what << ": " << result.status().message();
    unchanged_->Check();
  }

  static constexpr int kRows = 400;
  const TempDir dir_;
  const std::string path_ = dir_ / "t";
  std::shared_ptr<Table> target_;
  std::unique_ptr<Unchanged> unchanged_;
};

TEST_F(Damage, EveryByteOfTheManifest) {
  const std::string manifest = path_ + "/manifest";
  const std::string good = ReadFile(manifest);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x41);
    WriteFile(manifest, bad);
    ExpectDataLoss("manifest", "byte " + std::to_string(i));
    if (HasFatalFailure()) return;
  }
  unchanged_->CheckRows();
  WriteFile(manifest, good);
  EXPECT_TRUE(RestoreTable(target_.get(), path_).ok());
  EXPECT_EQ(target_->size(), kRows);
}

TEST_F(Damage, RandomFlipsTruncationsAndTails) {
  std::mt19937_64 random(TestSeed());
  std::vector<std::string> parts = Files(path_);
  parts.erase(std::find(parts.begin(), parts.end(), "manifest"));
  ASSERT_GE(parts.size(), 3u);
  for (int trial = 0; trial < 2000; ++trial) {
    const std::string name = parts[random() % parts.size()];
    const std::string file = path_ + "/" + name;
    const std::string good = ReadFile(file);
    std::string bad = good;
    std::string what = "trial " + std::to_string(trial);
    switch (random() % 4) {
      case 0:
        bad.resize(random() % good.size());
        what += ": truncated to " + std::to_string(bad.size());
        break;
      case 1:
        bad += std::string(1 + random() % 100, static_cast<char>(random()));
        what += ": grown to " + std::to_string(bad.size());
        break;
      case 2: {  // a stretch of zeros, as a lost page leaves it
        const size_t begin = random() % good.size();
        const size_t end = std::min(good.size(), begin + 1 + random() % 512);
        std::fill(bad.begin() + static_cast<long>(begin), bad.begin() + static_cast<long>(end), 0);
        what += ": zeros from " + std::to_string(begin);
        break;
      }
      default:
        for (uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
          const size_t at = random() % good.size();
          bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
          what += ": flipped " + std::to_string(at);
        }
    }
    if (bad == good) continue;
    WriteFile(file, bad);
    ExpectDataLoss(name, what);
    WriteFile(file, good);
    if (HasFatalFailure()) return;
  }
  unchanged_->CheckRows();
  EXPECT_TRUE(RestoreTable(target_.get(), path_).ok()) << "all damage was taken back";
}

TEST_F(Damage, MissingAndSwappedParts) {
  const std::string a = ReadFile(path_ + "/data-00000");
  const std::string b = ReadFile(path_ + "/data-00001");
  std::filesystem::remove(path_ + "/data-00001");
  ExpectDataLoss("data-00001", "missing");
  WriteFile(path_ + "/data-00001", a);
  ExpectDataLoss("data-00001", "another part's bytes");
  WriteFile(path_ + "/data-00001", b);

  // The same part of another save of the same rows.
  const auto again = LoadTable(path_, 4);
  ASSERT_TRUE(again.ok());
  ASSERT_TRUE(checkpoint::SaveWithLimits(*again.value(), dir_ / "u", 1, Env::Default(),
                                         {.block_bytes = 1024, .part_bytes = 6000})
                  .ok());
  WriteFile(path_ + "/data-00000", ReadFile(dir_ / "u/data-00000"));
  ExpectDataLoss("data-00000", "another save's part");
  unchanged_->CheckRows();
}

TEST_F(Damage, NoManifestIsNotFound) {
  std::filesystem::remove(path_ + "/manifest");
  const auto result = RestoreTable(target_.get(), path_);
  EXPECT_EQ(result.status().code(), StatusCode::kNotFound);
  EXPECT_NE(result.status().message().find(path_), std::string::npos);
  unchanged_->CheckRows();
}

// Blocks exchanged or repeated with right checksums: only their place is wrong.
TEST_F(Damage, BlocksOutOfPlace) {
  const std::string part = path_ + "/data-00000";
  const std::string good = ReadFile(part);
  const auto block_bytes = [&](size_t at) {
    checkpoint::BlockHeader header;
    std::memcpy(&header, good.data() + at, sizeof(header));
    return sizeof(header) + header.payload_bytes;
  };
  const size_t first = sizeof(checkpoint::PartHeader);
  const size_t n = block_bytes(first);
  const size_t second = first + n;
  const size_t m = block_bytes(second);
  const std::string exchanged = good.substr(0, first) + good.substr(second, m) +
                                good.substr(first, n) + good.substr(second + m);
  WriteFile(part, exchanged);
  ExpectDataLoss("data-00000", "exchanged");
  if (n == m) {
    WriteFile(part, good.substr(0, second) + good.substr(first, n) + good.substr(second + m));
    ExpectDataLoss("data-00000", "repeated");
  }
}

// A hostile writer computes checksums too: sizes are still not believed.
TEST_F(Damage, SealedLiesAboutSizes) {
  const std::string part = path_ + "/data-00000";
  const std::string good = ReadFile(part);
  const size_t first = sizeof(checkpoint::PartHeader);
  constexpr size_t kCovered = offsetof(checkpoint::BlockHeader, magic);
  const uint64_t row_bytes = checkpoint::RowLayout{.row_floats = 6, .dim = 3}.bytes();
  for (const uint64_t rows : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, uint64_t{0xffffffff}}) {
    for (const uint64_t payload : {rows * row_bytes, uint64_t{0}, ~uint64_t{0}, ~uint64_t{31}}) {
      checkpoint::BlockHeader header;
      header.rows = static_cast<uint32_t>(rows);
      header.payload_bytes = payload;
      header.offset = first;
      std::string bad = good;
      std::memcpy(bad.data() + first, &header, sizeof(header));
      if (payload <= bad.size() - first - sizeof(header)) {
        header.checksum = checkpoint::Checksum(bad.data() + first + kCovered,
                                               sizeof(header) - kCovered + payload);
        std::memcpy(bad.data() + first, &header, sizeof(header));
      }
      WriteFile(part, bad);
      ExpectDataLoss("data-00000", std::to_string(rows) + " rows, " + std::to_string(payload));
    }
  }
}

TEST_F(Damage, AKeyThatIsThereTwice) {
  const std::string part = path_ + "/data-00000";
  std::string bad = ReadFile(part);
  const size_t first = sizeof(checkpoint::PartHeader);
  checkpoint::BlockHeader header;
  std::memcpy(&header, bad.data() + first, sizeof(header));
  char* keys = bad.data() + first + sizeof(header);
  std::memcpy(keys, keys + sizeof(int64_t), sizeof(int64_t));
  constexpr size_t kCovered = offsetof(checkpoint::BlockHeader, magic);
  header.checksum = checkpoint::Checksum(bad.data() + first + kCovered,
                                         sizeof(header) - kCovered + header.payload_bytes);
  std::memcpy(bad.data() + first, &header, sizeof(header));
  WriteFile(part, bad);
  ExpectDataLoss("data-00000", "a repeated key");
  unchanged_->CheckRows();
}

TEST_F(Damage, EveryFailedReadIsAnError) {
  FaultEnv env;
  env.FailRead(-1);
  {
    const auto other = MakeTable(Options(OptimizerKind::kAdagrad));
    ASSERT_TRUE(RestoreTable(other.get(), path_, &env).ok());
  }
  const int64_t reads = env.reads();
  ASSERT_GT(reads, 10);
  for (int64_t n = 0; n < reads; ++n) {
    env.FailRead(n);
    EXPECT_EQ(RestoreTable(target_.get(), path_, &env).status().code(), StatusCode::kIoError)
        << "read " << n;
    unchanged_->Check();
    env.FailRead(n);
    EXPECT_EQ(LoadTable(path_, 1, &env).status().code(), StatusCode::kIoError) << "read " << n;
  }
  unchanged_->CheckRows();
}

}  // namespace
}  // namespace mxrec::testing
