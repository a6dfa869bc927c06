#include "util/cache_size.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "env/temp_dir.h"

namespace mxrec {
namespace {

class Folder {
 public:
  void Add(const std::string& level, const std::string& type, const std::string& size) {
    const std::string cache = dir_ / ("index" + std::to_string(caches_++));
    std::filesystem::create_directory(cache);
    std::ofstream(cache + "/level") << level << "\n";
    std::ofstream(cache + "/type") << type << "\n";
    std::ofstream(cache + "/size") << size << "\n";
  }
  size_t Bytes(int level) const { return CacheBytesIn(dir_.path(), level); }

 private:
  testing::TempDir dir_;
  int caches_ = 0;
};

TEST(CacheSizeTest, ReadsTheDataCacheOfALevel) {
  Folder folder;
  EXPECT_EQ(folder.Bytes(1), 0u);
  folder.Add("1", "Instruction", "64K");
  folder.Add("1", "Data", "48K");
  folder.Add("2", "Unified", "1024K");
  folder.Add("3", "Unified", "32M");
  EXPECT_EQ(folder.Bytes(1), size_t{48} << 10);
  EXPECT_EQ(folder.Bytes(2), size_t{1} << 20);
  EXPECT_EQ(folder.Bytes(3), size_t{32} << 20);
  EXPECT_EQ(folder.Bytes(4), 0u);
}

TEST(CacheSizeTest, WhatCannotBeReadIsUnknown) {
  Folder folder;
  folder.Add("one", "Data", "48K");
  folder.Add("2", "Data", "48K");
  EXPECT_EQ(folder.Bytes(2), 0u);
  EXPECT_EQ(CacheBytesIn("no such folder", 1), 0u);
  for (const char* size : {"", "K", "many", "48", "48G"}) {
    Folder other;
    other.Add("3", "Unified", size);
    EXPECT_EQ(other.Bytes(3), 0u) << size;
  }
}

TEST(CacheSizeTest, TheCachesOfThisMachineGrowWithTheirLevel) {
  for (int level = 1; level < 3; ++level) {
    const size_t near = CacheBytes(level), far = CacheBytes(level + 1);
    EXPECT_TRUE(near == 0 || far == 0 || near <= far) << level;
  }
}

}  // namespace
}  // namespace mxrec
