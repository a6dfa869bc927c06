// SegmentSet: what compaction is asked for.
#include "ssd/segment_set.h"

#include <gtest/gtest.h>

namespace mxrec::ssd {
namespace {

constexpr uint32_t kRecords = 1000;  // of a segment
constexpr uint32_t kPayload = 100;   // bytes
constexpr uint64_t kBytes = uint64_t{kRecords} * kPayload;
constexpr double kRatio = 1.5;

// A segment of the set's size, empty.
std::shared_ptr<Segment> Open(SegmentSet* set) {
  auto segment = set->Make();
  segment->bytes = kBytes;
  set->Add(segment);
  return segment;
}

void Fill(SegmentSet* set, Segment* segment, uint32_t live, uint32_t records = kRecords) {
  const uint32_t begin = segment->records;
  for (uint32_t i = 0; i < live; ++i) set->MarkLive(segment, begin + i);
  set->Appended(segment, records);
}

// Sealed segments of which two thirds are live: what the ratio allows.
void FillToRatio(SegmentSet* set, int segments) {
  for (int i = 0; i < segments; ++i) {
    const auto segment = Open(set);
    Fill(set, segment.get(), kRecords * 2 / 3 + 1);
    set->Sealed(segment.get(), kBytes);
  }
}

TEST(SegmentSet, AsksForSpaceAsRecordsComeNotAsSegmentsOpen) {
  SegmentSet set(kRecords, kBytes, kPayload, kPayload);
  FillToRatio(&set, 60);
  // Room for two of the three segments that may be open: they count half.
  for (int i = 0; i < 3; ++i) {
    const auto full = Open(&set);
    Fill(&set, full.get(), kRecords);
    set.Sealed(full.get(), kBytes);
  }
  ASSERT_FALSE(set.Exceeds(kRatio, 0));
  const auto open = Open(&set);
  const auto reserve = Open(&set);
  EXPECT_FALSE(set.Exceeds(kRatio, 0));
  // What replaces other records takes space: asked for after a part of the segment.
  uint32_t at = 0;
  for (; at < kRecords && !set.Exceeds(kRatio, 0); at += 10) Fill(&set, open.get(), 0, 10);
  EXPECT_GT(at, 0u);
  EXPECT_LT(at, kRecords / 2);
  // Neither its seal nor the next one changes what is asked for.
  Fill(&set, open.get(), 0, kRecords - at);
  set.Sealed(open.get(), kBytes);
  constexpr double kHigher = 1.53;
  ASSERT_FALSE(set.Exceeds(kHigher, 0));
  (void)Open(&set);
  EXPECT_FALSE(set.Exceeds(kHigher, 0));
}

TEST(SegmentSet, SegmentsSealedEarlyTakeWhatTheyHold) {
  SegmentSet set(kRecords, kBytes, kPayload, kPayload);
  FillToRatio(&set, 60);
  const auto exceeds_at = [&] {
    double ratio = 1.0;
    while (set.Exceeds(ratio, 0)) ratio += 0.001;
    return ratio;
  };
  const auto open = Open(&set);
  Fill(&set, open.get(), 100, 100);
  const double before = exceeds_at();
  set.Sealed(open.get(), kBytes / 10);
  EXPECT_NEAR(exceeds_at(), before, 0.0011);
}

// A batch larger than a segment opens several at once; no more than three are taken for empty.
TEST(SegmentSet, ManyReservedSegmentsCount) {
  SegmentSet set(kRecords, kBytes, kPayload, kPayload);
  FillToRatio(&set, 60);
  ASSERT_FALSE(set.Exceeds(kRatio * 1.05, 0));
  for (int i = 0; i < 3; ++i) (void)Open(&set);
  EXPECT_FALSE(set.Exceeds(kRatio * 1.05, 0));
  for (int i = 0; i < 6; ++i) (void)Open(&set);
  EXPECT_TRUE(set.Exceeds(kRatio * 1.05, 0));
}

}  // namespace
}  // namespace mxrec::ssd
