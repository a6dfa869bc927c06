// Files that somebody else has changed: an error names table, segment, file and key, and the other
// records are read.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "ssd/ssd_fixture.h"

namespace mxrec::ssd::testing {
namespace {

class SsdLogDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    log_ = MustOpen(Env::Default(), SmallLog(dir_.path()), &owner_);
    ASSERT_TRUE(owner_.Put(log_.get(), Range(0, 2000)).ok());
    ASSERT_TRUE(log_->Seal().ok());
  }

  // Where a key's record is.
  struct Place {
    std::string file;
    uint64_t segment;
    off_t offset;
  };
  Place PlaceOf(int64_t key) {
    const uint32_t location = owner_.index.at(key).location;
    const SsdLog::Pins pins = log_->Pin();
    for (const auto& pinned : pins.segments()) {
      if (location < pinned.first_location || location >= pinned.first_location + pinned.records) {
        continue;
      }
      return {pinned.file, pinned.segment,
              static_cast<off_t>(kPagesOffset +
                                 log_->layout().OffsetOf(location - pinned.first_location))};
    }
    ADD_FAILURE() << "no segment has key " << key;
    return {};
  }
  static std::vector<char> ReadFile(const std::string& path, off_t offset, size_t bytes) {
    std::vector<char> data(bytes);
    const int fd = ::open(path.c_str(), O_RDONLY);
    EXPECT_EQ(::pread(fd, data.data(), bytes, offset), static_cast<ssize_t>(bytes));
    ::close(fd);
    return data;
  }
  static void WriteFile(const std::string& path, off_t offset, const std::vector<char>& data) {
    const int fd = ::open(path.c_str(), O_WRONLY);
    EXPECT_EQ(::pwrite(fd, data.data(), data.size(), offset), static_cast<ssize_t>(data.size()));
    EXPECT_EQ(::fsync(fd), 0);
    ::close(fd);
  }
  void ExpectLost(int64_t key, const Place& place) {
    size_t right = 0;
    const Status status = owner_.Get(log_.get(), Range(0, 2000), &right);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status.message();
    EXPECT_EQ(right, 1999u);
    for (const std::string& part :
         {std::string("table 'ads'"), "segment " + std::to_string(place.segment), place.file,
          "key " + std::to_string(key)}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    }
  }

  const TempDir dir_;
  ModelOwner owner_;
  std::unique_ptr<SsdLog> log_;
};

TEST_F(SsdLogDamage, EveryByteOfARecordIsCovered) {
  const Place place = PlaceOf(777);
  const std::vector<char> intact =
      ReadFile(place.file, place.offset, log_->layout().record_bytes());
  for (size_t i = 0; i < intact.size(); ++i) {
    std::vector<char> damaged = intact;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    WriteFile(place.file, place.offset, damaged);
    const Status status = owner_.Get(log_.get(), {777});
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << i;
  }
  ExpectLost(777, place);
  WriteFile(place.file, place.offset, intact);
  EXPECT_TRUE(owner_.Get(log_.get(), {777}).ok());
}

TEST_F(SsdLogDamage, ARecordInAnotherPlaceIsNoticed) {
  const Place a = PlaceOf(3);
  const Place b = PlaceOf(4);
  ASSERT_EQ(a.file, b.file);
  WriteFile(b.file, b.offset, ReadFile(a.file, a.offset, log_->layout().record_bytes()));
  ExpectLost(4, b);
}

TEST_F(SsdLogDamage, TheSameSlotOfAnotherSegmentIsNoticed) {
  const Place a = PlaceOf(3);
  const Place b = PlaceOf(1999);
  ASSERT_NE(a.file, b.file);
  WriteFile(a.file, 0, ReadFile(b.file, 0, 16 << 10));
  size_t right = 0;
  const Status status = owner_.Get(log_.get(), Range(0, 2000), &right);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status.message();
  EXPECT_GT(right, 1000u);
}

TEST_F(SsdLogDamage, ATruncatedSegmentIsAnError) {
  const Place place = PlaceOf(3);
  for (const uint64_t bytes : {uint64_t{5000}, uint64_t{0}}) {
    std::filesystem::resize_file(place.file, bytes);
    const Status status = owner_.Get(log_.get(), {3, 100, 1999});
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status.message();
    EXPECT_NE(status.message().find("it ends at byte"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(place.file), std::string::npos) << status.message();
  }
  EXPECT_TRUE(owner_.Get(log_.get(), {1999}).ok()) << "other segments are read";
  EXPECT_TRUE(owner_.Put(log_.get(), {3}).ok()) << "and the log takes records";
  EXPECT_TRUE(owner_.Get(log_.get(), {3}).ok());
}

TEST_F(SsdLogDamage, ADeletedSegmentIsReadReportedAndMoved) {
  const Place place = PlaceOf(3);
  std::filesystem::remove(place.file);
  EXPECT_TRUE(owner_.Get(log_.get(), Range(0, 2000)).ok()) << "it is still open";
  const auto expect_named = [&](const Status& status) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status.message();
    for (const std::string& part : {std::string("table 'ads'"), place.file,
                                    "segment " + std::to_string(place.segment) + ":"}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    }
  };
  {
    const SsdLog::Pins pins = log_->Pin();
    size_t refused = 0;
    for (size_t i = 0; i < pins.segments().size(); ++i) {
      const Status synced = pins.Sync(i);
      if (synced.ok()) continue;
      expect_named(synced);
      ++refused;
    }
    EXPECT_EQ(refused, 1u) << "a checkpoint hears of it before it links";
  }
  log_->Compact();
  expect_named(log_->TakeBackgroundError());
  EXPECT_EQ(log_->stats().compaction.missing, 1u);
  ASSERT_TRUE(log_->Seal().ok());
  log_->Compact();
  EXPECT_TRUE(log_->TakeBackgroundError().ok()) << "told once";
  size_t right = 0;
  EXPECT_TRUE(owner_.Get(log_.get(), Range(0, 2000), &right).ok());
  EXPECT_EQ(right, 2000u);
  EXPECT_TRUE(std::filesystem::exists(PlaceOf(3).file));
}

TEST_F(SsdLogDamage, DeletedFilesAreNoticedByThemselves) {
  LogOptions options = SmallLog(dir_.path());
  options.patrol_millis = 20;
  ASSERT_TRUE(log_->Close().ok());
  ModelOwner owner;
  log_ = MustOpen(Env::Default(), options, &owner);
  ASSERT_TRUE(owner.Put(log_.get(), Range(0, 2000)).ok());
  ASSERT_TRUE(log_->Seal().ok());
  const std::string directory =
      std::filesystem::path(SegmentFiles(dir_.path())[0]).parent_path().string();
  std::filesystem::remove_all(directory);
  Status heard;
  for (int i = 0; i < 500 && heard.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    heard = log_->TakeBackgroundError();
  }
  EXPECT_EQ(heard.code(), StatusCode::kNotFound) << heard.message();
  EXPECT_NE(heard.message().find(directory), std::string::npos) << heard.message();
  EXPECT_TRUE(owner.Get(log_.get(), Range(0, 2000)).ok());
  // There is nowhere to go for new segments.
  const Status refused = owner.Put(log_.get(), Range(0, 10000));
  EXPECT_EQ(refused.code(), StatusCode::kNotFound) << refused.message();
  EXPECT_NE(refused.message().find("table 'ads'"), std::string::npos) << refused.message();
  EXPECT_NE(refused.message().find(directory), std::string::npos) << refused.message();
  EXPECT_TRUE(owner.Get(log_.get(), Range(0, 2000)).ok());
  EXPECT_TRUE(log_->Close().ok());
}

TEST_F(SsdLogDamage, CompactionMovesWhatIsIntact) {
  const Place place = PlaceOf(777);
  std::vector<char> record = ReadFile(place.file, place.offset, log_->layout().record_bytes());
  record[20] = static_cast<char>(record[20] ^ 1);
  WriteFile(place.file, place.offset, record);
  owner_.Erase(log_.get(), Range(0, 700));
  std::vector<int64_t> every_other;
  for (int64_t key = 701; key < 2000; key += 2) {
    if (key != 777) every_other.push_back(key);
  }
  owner_.Erase(log_.get(), every_other);
  log_->Compact();
  const Status heard = log_->TakeBackgroundError();
  EXPECT_EQ(heard.code(), StatusCode::kDataLoss);
  EXPECT_NE(heard.message().find(place.file), std::string::npos) << heard.message();
  EXPECT_TRUE(log_->TakeBackgroundError().ok()) << "told once";
  size_t right = 0;
  EXPECT_EQ(owner_.Get(log_.get(), owner_.Keys(), &right).code(), StatusCode::kDataLoss);
  EXPECT_EQ(right, owner_.index.size() - 1);
  EXPECT_EQ(PlaceOf(777).file, place.file) << "the damaged record stays";
  owner_.Erase(log_.get(), {777});
  log_->Compact();
  EXPECT_FALSE(std::filesystem::exists(place.file)) << "until nobody needs it";
}

// As a program would that restores from linked segments: nothing but the file is used.
TEST_F(SsdLogDamage, PinnedSegmentsOutliveTheLogAndDescribeThemselves) {
  const TempDir checkpoint;
  std::vector<int64_t> found;
  {
    owner_.Erase(log_.get(), Range(100, 300));
    const SsdLog::Pins pins = log_->Pin();
    ASSERT_GT(pins.segments().size(), 2u);
    for (size_t i = 0; i < pins.segments().size(); ++i) {
      ASSERT_TRUE(pins.Sync(i).ok());
      std::filesystem::create_hard_link(pins.segments()[i].file, checkpoint / std::to_string(i));
    }
    const RecordLayout& layout = log_->layout();
    for (size_t i = 0; i < pins.segments().size(); ++i) {
      const auto& pinned = pins.segments()[i];
      const std::string path = checkpoint / std::to_string(i);
      const auto size = std::filesystem::file_size(path);
      const std::vector<char> data = ReadFile(path, 0, size);
      SegmentHeader header;
      SegmentTrailer trailer;
      ASSERT_TRUE(CheckHeader(data.data(), &header).ok());
      ASSERT_TRUE(CheckTrailer(data.data() + size - kBlockBytes, &trailer).ok());
      EXPECT_EQ(header.segment, pinned.segment);
      EXPECT_EQ(header.row_bytes, layout.row_bytes());
      EXPECT_EQ(std::string(header.table.data()), "ads");
      ASSERT_EQ(trailer.records, pinned.records);
      for (uint32_t slot = 0; slot < trailer.records; ++slot) {
        int64_t key;
        std::memcpy(&key, data.data() + trailer.keys_offset + slot * sizeof(key), sizeof(key));
        const char* const record = data.data() + kPagesOffset + layout.OffsetOf(slot);
        uint64_t checksum;
        std::memcpy(&checksum, record, sizeof(checksum));
        EXPECT_EQ(checksum,
                  RecordChecksum(layout, {header.run, header.segment, slot, key}, record));
        if ((pinned.live[slot / 64] >> (slot % 64) & 1) != 0) found.push_back(key);
      }
    }
    owner_.Erase(log_.get(), owner_.Keys());
    log_->Compact();
    EXPECT_TRUE(std::filesystem::exists(pins.segments()[0].file)) << "pinned";
  }
  std::sort(found.begin(), found.end());
  std::vector<int64_t> expected = Range(0, 100);
  for (const int64_t key : Range(300, 2000)) expected.push_back(key);
  EXPECT_EQ(found, expected);
  log_->Compact();
  EXPECT_EQ(log_->stats().segments.sealed, 0u);
  EXPECT_TRUE(log_->Close().ok());
  EXPECT_TRUE(std::filesystem::exists(checkpoint / "0")) << "the link keeps the data";
}

}  // namespace
}  // namespace mxrec::ssd::testing
