#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "checkpoint/checkpoint_fixture.h"
#include "checkpoint/data_part.h"
#include "env/temp_dir.h"

namespace mxrec::checkpoint {
namespace {

using ::mxrec::testing::ReadFile;
using ::mxrec::testing::TempDir;
using ::mxrec::testing::WriteFile;

constexpr uint32_t kPart = 3;
constexpr uint32_t kRowFloats = 2;
constexpr Uid kUid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

RowLayout Layout(uint32_t row_floats) { return {.row_floats = row_floats, .dim = 1}; }

class DataPart : public ::testing::Test {
 protected:
  void SetUp() override {
    rows_.keys = {INT64_MIN, -1, 0, INT64_MAX, 7};
    rows_.frequency = {0, 1, 2, 0xffffffffu, 4};
    rows_.last_time = {9, 8, 7, 6, 5};
    rows_.values = {0.5f, -0.0f, 1e-45f, 1e38f, 2, 3, 4, 5, 6, 7};
    auto writer = PartWriter::Create(Env::Default(), path_, kUid, kPart, Layout(kRowFloats));
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    ASSERT_TRUE(writer.value()->AddBlock(rows_, 0, 3).ok());
    ASSERT_TRUE(writer.value()->AddBlock(rows_, 3, 5).ok());
    auto info = writer.value()->Finish();
    ASSERT_TRUE(info.ok()) << info.status().message();
    info_ = info.value();
  }

  // All rows of the file; the first error ends it.
  Status ReadAll(const PartInfo& expected, RowBlock* all, const Uid& uid = kUid,
                 uint32_t part = kPart, uint32_t row_floats = kRowFloats) {
    auto reader = PartReader::Open(Env::Default(), path_, uid, part, Layout(row_floats), expected);
    if (!reader.ok()) return reader.status();
    RowBlock block;
    all->clear();
    for (;;) {
      MXREC_RETURN_IF_ERROR(reader.value()->Next(&block));
      if (block.size() == 0) return {};
      all->keys.insert(all->keys.end(), block.keys.begin(), block.keys.end());
      all->frequency.insert(all->frequency.end(), block.frequency.begin(), block.frequency.end());
      all->last_time.insert(all->last_time.end(), block.last_time.begin(), block.last_time.end());
      all->values.insert(all->values.end(), block.values.begin(), block.values.end());
    }
  }

  void ExpectDamage(const Status& status, const std::string& what) {
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << what << ": " << status.message();
    ASSERT_EQ(status.message().rfind(path_ + ": damaged at byte ", 0), 0u)
        << what << ": " << status.message();
  }

  const TempDir dir_;
  const std::string path_ = dir_ / "data-00003";
  RowBlock rows_;
  PartInfo info_;
};

TEST_F(DataPart, RoundTrip) {
  EXPECT_EQ(info_.rows, 5u);
  EXPECT_EQ(info_.bytes, 48 + 2 * 32 + 5 * (16 + 4 * kRowFloats) + 40);
  EXPECT_EQ(ReadFile(path_).size(), info_.bytes);
  RowBlock all;
  const Status status = ReadAll(info_, &all);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(all.keys, rows_.keys);
  EXPECT_EQ(all.frequency, rows_.frequency);
  EXPECT_EQ(all.last_time, rows_.last_time);
  ASSERT_EQ(all.values.size(), rows_.values.size());
  EXPECT_EQ(std::memcmp(all.values.data(), rows_.values.data(), 4 * all.values.size()), 0);
}

TEST_F(DataPart, AFlipInAnyByteIsDamage) {
  const std::string good = ReadFile(path_);
  RowBlock all;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    WriteFile(path_, bad);
    ExpectDamage(ReadAll(info_, &all), "byte " + std::to_string(i));
    if (HasFatalFailure()) return;
  }
}

// Also when the manifest agrees with the damaged size.
TEST_F(DataPart, EveryTruncationIsDamage) {
  const std::string good = ReadFile(path_);
  RowBlock all;
  for (size_t size = 0; size < good.size(); ++size) {
    WriteFile(path_, good.substr(0, size));
    const Status status = ReadAll(info_, &all);
    ExpectDamage(status, "size " + std::to_string(size));
    EXPECT_NE(status.message().find("at byte " + std::to_string(size)), std::string::npos)
        << status.message();
    ExpectDamage(ReadAll({size, info_.rows}, &all), "agreed size " + std::to_string(size));
    if (HasFatalFailure()) return;
  }
}

TEST_F(DataPart, TheDamagedBlockIsNamed) {
  const size_t second = 48 + 32 + 3 * (16 + 4 * kRowFloats);
  std::string bad = ReadFile(path_);
  bad[second + 40] ^= 1;
  WriteFile(path_, bad);
  RowBlock all;
  const Status status = ReadAll(info_, &all);
  EXPECT_NE(status.message().find("at byte " + std::to_string(second) + ":"), std::string::npos)
      << status.message();
  EXPECT_EQ(all.size(), 3u) << "the block before it is good";
}

TEST_F(DataPart, AnotherPartIsRefused) {
  RowBlock all;
  Uid other = kUid;
  other[15] ^= 1;
  ExpectDamage(ReadAll(info_, &all, other), "another checkpoint");
  ExpectDamage(ReadAll(info_, &all, kUid, kPart + 1), "another number");
  ExpectDamage(ReadAll(info_, &all, kUid, kPart, kRowFloats + 1), "another width");
  ExpectDamage(ReadAll({info_.bytes, info_.rows + 1}, &all), "other rows");
}

}  // namespace
}  // namespace mxrec::checkpoint
