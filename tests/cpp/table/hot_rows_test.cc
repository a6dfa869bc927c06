#include "table/hot_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "index/key_hash.h"

namespace mxrec {
namespace {

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

size_t PlaceOf(const HotRows& hot, int64_t key) { return hot.view().PlaceOf(HashKey(key)); }

// As a reader does it. Null: not hot.
const float* Find(const HotRows& hot, int64_t key) {
  const HotRows::View view = hot.view();
  if (view.keys == nullptr) return nullptr;
  const size_t place = view.PlaceOf(HashKey(key));
  return view.keys[place] == key ? view.Row(place) : nullptr;
}

// Rows of a table as HotRows sees them: key i lies in shard i % shards at reference refs[i].
class Rows {
 public:
  Rows(std::vector<int64_t> keys, size_t row_bytes, uint32_t shards, uint64_t seed)
      : keys_(std::move(keys)), row_bytes_(row_bytes), shards_(shards) {
    std::mt19937_64 rng(seed);
    values_.resize(keys_.size() * Stride());
    for (float& v : values_) v = static_cast<float>(rng() % 1000);
    refs_.resize(keys_.size());
    std::iota(refs_.begin(), refs_.end(), 0u);
    std::shuffle(refs_.begin(), refs_.end(), rng);
  }

  size_t size() const { return keys_.size(); }
  int64_t key(size_t i) const { return keys_[i]; }
  uint32_t shard(size_t i) const { return static_cast<uint32_t>(i) % shards_; }
  RowRef ref(size_t i) const { return refs_[i]; }
  float* row(size_t i) { return &values_[i * Stride()]; }
  std::vector<HotRows::Row> all() {
    std::vector<HotRows::Row> rows;
    for (size_t i = 0; i < size(); ++i) rows.push_back({key(i), shard(i), ref(i), row(i)});
    return rows;
  }

 private:
  size_t Stride() const { return (row_bytes_ + sizeof(float) - 1) / sizeof(float); }
  std::vector<int64_t> keys_;
  size_t row_bytes_;
  uint32_t shards_;
  std::vector<float> values_;
  std::vector<RowRef> refs_;
};

std::vector<int64_t> Iota(size_t n, int64_t from) {
  std::vector<int64_t> keys(n);
  std::iota(keys.begin(), keys.end(), from);
  return keys;
}

TEST(HotRowsTest, DisabledItNeverHoldsARow) {
  HotRows hot(16, false);
  Rows rows({1, 2, 3}, 16, 1, 1);
  hot.Rebuild(rows.all());
  EXPECT_FALSE(hot.enabled());
  EXPECT_FALSE(hot.any());
  EXPECT_EQ(hot.size(), 0u);
  EXPECT_EQ(hot.places(), 0u);
  EXPECT_EQ(hot.bytes(), 0);
  EXPECT_FALSE(hot.MayHold(0, 0));
  hot.WriteThrough(rows.shard(0), rows.ref(0), rows.row(0));
  hot.Drop(rows.shard(0), rows.ref(0));
}

TEST(HotRowsTest, HoldsTheFirstKeyOfEveryPlace) {
  for (const size_t row_bytes : {2, 4, 6, 12, 32, 128, 1000, 32768}) {
    HotRows hot(row_bytes, true);
    if (!hot.enabled()) continue;  // a cache too small for such rows
    ASSERT_GE(hot.most_places(), 16u);
    std::vector<int64_t> keys = Iota(2 * hot.most_places(), -100);
    keys[0] = kMin;
    keys[1] = kMax;
    Rows rows(keys, row_bytes, 8, row_bytes);
    hot.Rebuild(rows.all());
    EXPECT_EQ(hot.places(), hot.most_places());
    EXPECT_EQ(hot.places() & (hot.places() - 1), 0u);
    std::map<size_t, size_t> first;  // row of each place
    for (size_t i = 0; i < rows.size(); ++i) first.try_emplace(PlaceOf(hot, keys[i]), i);
    EXPECT_LT(first.size(), rows.size()) << "there must be collisions";
    EXPECT_EQ(hot.size(), first.size());
    EXPECT_GE(hot.bytes(), static_cast<int64_t>(hot.places() * row_bytes));
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t place = PlaceOf(hot, keys[i]);
      const float* found = Find(hot, keys[i]);
      ASSERT_EQ(found != nullptr, first[place] == i) << keys[i];
      if (found == nullptr) continue;
      EXPECT_EQ(std::memcmp(found, rows.row(i), row_bytes), 0);
      EXPECT_TRUE(hot.MayHold(rows.shard(i), rows.ref(i)));
      EXPECT_EQ(hot.owner(place).shard, rows.shard(i));
      EXPECT_EQ(hot.owner(place).ref, rows.ref(i));
    }
  }
}

TEST(HotRowsTest, TheBlockIsAsLargeAsItsRowsWant) {
  HotRows hot(64, true);
  EXPECT_EQ(hot.bytes(), 0);
  size_t last = 0;
  for (const size_t n : {size_t{1}, size_t{7}, size_t{100}, hot.most_places(), size_t{9}}) {
    Rows rows(Iota(n, 0), 64, 4, n);
    hot.Rebuild(rows.all());
    EXPECT_LE(hot.places(), hot.most_places());
    EXPECT_EQ(hot.places(), std::min(hot.most_places(), std::bit_ceil(4 * n)));
    EXPECT_GE(hot.size(), n / 2);
    for (size_t i = 0; i < n; ++i) {
      const float* found = Find(hot, rows.key(i));
      if (found != nullptr) {
        EXPECT_EQ(std::memcmp(found, rows.row(i), 64), 0);
      }
    }
    if (n <= 100) {
      EXPECT_LT(hot.bytes(), int64_t{256} << 10);
    }
    EXPECT_EQ(hot.any(), true);
    last = hot.places();
  }
  EXPECT_EQ(last, 64u);
}

TEST(HotRowsTest, RowsThatFillTheCacheAreNeverHot) {
  HotRows hot(size_t{64} << 20, true);
  EXPECT_FALSE(hot.enabled());
  Rows rows({1}, 16, 1, 1);
  hot.Rebuild(rows.all());
  EXPECT_FALSE(hot.any());
}

// What an empty place holds is a key, too, but one that is looked for elsewhere.
TEST(HotRowsTest, EmptyPlacesMatchNoKey) {
  HotRows hot(64, true);
  Rows rows({12345}, 64, 1, 1);
  hot.Rebuild(rows.all());
  const auto expect_no_other = [&](bool own) {
    std::vector<int64_t> tried(hot.view().keys, hot.view().keys + hot.places());
    for (int64_t key = -50000; key < 50000; ++key) tried.push_back(key);
    tried.insert(tried.end(), {kMin, kMin + 1, kMax, kMax - 1});
    for (const int64_t key : tried) {
      EXPECT_EQ(Find(hot, key) != nullptr, own && key == 12345) << key;
    }
  };
  expect_no_other(true);
  hot.Drop(rows.shard(0), rows.ref(0));
  expect_no_other(false);
}

TEST(HotRowsTest, WriteThroughReachesTheRowAndNoOther) {
  const size_t row_bytes = 10;  // of a 16-bit row: its place has more bytes than it
  HotRows hot(row_bytes, true);
  Rows rows(Iota(200, 0), row_bytes, 3, 7);
  hot.Rebuild(rows.all());
  std::vector<bool> held(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) held[i] = Find(hot, rows.key(i)) != nullptr;
  for (size_t i = 0; i < rows.size(); ++i) {
    rows.row(i)[0] = -1.0f - static_cast<float>(i);
    hot.WriteThrough(rows.shard(i), rows.ref(i), rows.row(i));
    for (size_t k = 0; k < rows.size(); ++k) {
      const float* found = Find(hot, rows.key(k));
      ASSERT_EQ(found != nullptr, held[k]);
      if (found != nullptr) {
        ASSERT_EQ(std::memcmp(found, rows.row(k), row_bytes), 0) << i << k;
      }
    }
  }
}

// Rows of which the filter says that they may be hot, and are not.
TEST(HotRowsTest, FalsePositivesOfTheFilterChangeNothing) {
  HotRows hot(16, true);
  Rows rows(Iota(hot.most_places() / 2, 0), 16, 2, 3);
  hot.Rebuild(rows.all());
  std::vector<std::pair<uint32_t, RowRef>> real;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (Find(hot, rows.key(i)) != nullptr) real.emplace_back(rows.shard(i), rows.ref(i));
  }
  std::sort(real.begin(), real.end());
  const float other[4] = {-1, -2, -3, -4};
  int positives = 0;
  for (uint32_t shard = 0; shard < 4; ++shard) {
    for (RowRef ref = 0; ref < 50000; ++ref) {
      if (std::binary_search(real.begin(), real.end(), std::pair(shard, ref))) continue;
      positives += hot.MayHold(shard, ref);
      hot.WriteThrough(shard, ref, other);
      hot.Drop(shard, ref);
    }
  }
  EXPECT_GT(positives, 0);
  EXPECT_EQ(hot.size(), real.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool is_real =
        std::binary_search(real.begin(), real.end(), std::pair(rows.shard(i), rows.ref(i)));
    const float* found = Find(hot, rows.key(i));
    ASSERT_EQ(found != nullptr, is_real);
    if (found != nullptr) {
      EXPECT_EQ(std::memcmp(found, rows.row(i), 16), 0);
    }
  }
}

TEST(HotRowsTest, DroppedRowsAreGoneForGood) {
  HotRows hot(16, true);
  Rows rows(Iota(40, 0), 16, 4, 5);
  hot.Rebuild(rows.all());
  const size_t before = hot.size();
  ASSERT_NE(Find(hot, 0), nullptr);
  const size_t place = PlaceOf(hot, 0);
  hot.Drop(rows.shard(0), rows.ref(0));
  EXPECT_EQ(Find(hot, 0), nullptr);
  EXPECT_EQ(hot.size(), before - 1);
  EXPECT_EQ(hot.owner(place).ref, kNoRow);
  // The reference is given to another key: nothing of it may land in the place.
  rows.row(0)[0] = 77;
  hot.WriteThrough(rows.shard(0), rows.ref(0), rows.row(0));
  hot.Drop(rows.shard(0), rows.ref(0));
  EXPECT_EQ(Find(hot, 0), nullptr);
  EXPECT_EQ(hot.size(), before - 1);
  for (size_t i = 1; i < rows.size(); ++i) {
    const float* found = Find(hot, rows.key(i));
    if (found != nullptr) {
      EXPECT_EQ(std::memcmp(found, rows.row(i), 16), 0);
    }
  }
  for (size_t i = 0; i < rows.size(); ++i) hot.Drop(rows.shard(i), rows.ref(i));
  EXPECT_EQ(hot.size(), 0u);
  hot.Rebuild(rows.all());
  EXPECT_EQ(hot.size(), before);
  EXPECT_NE(Find(hot, 0), nullptr);
}

TEST(HotRowsTest, ClearAndRebuildForgetWhatWasThere) {
  HotRows hot(8, true);
  Rows old_rows(Iota(30, 0), 8, 1, 5);
  Rows new_rows(Iota(30, 1000), 8, 1, 6);
  hot.Rebuild(old_rows.all());
  hot.Rebuild(new_rows.all());
  for (int64_t key = 0; key < 30; ++key) EXPECT_EQ(Find(hot, key), nullptr);
  EXPECT_NE(Find(hot, 1000), nullptr);
  hot.Clear();
  EXPECT_FALSE(hot.any());
  EXPECT_EQ(hot.size(), 0u);
  EXPECT_EQ(Find(hot, 1000), nullptr);
  EXPECT_FALSE(hot.MayHold(0, new_rows.ref(0)));
  hot.Rebuild(new_rows.all());
  EXPECT_NE(Find(hot, 1000), nullptr);
  const int64_t held = hot.bytes();
  hot.Rebuild({});
  EXPECT_FALSE(hot.any());
  EXPECT_LT(hot.bytes(), held);
}

TEST(HotRowsTest, WithoutMemoryNoRowIsHot) {
  HotRows hot(8, true);
  Rows rows(Iota(30, 0), 8, 1, 5);
  PageAllocator::FailAllocation(0);
  hot.Rebuild(rows.all());
  PageAllocator::FailAllocation(-1);
  EXPECT_FALSE(hot.any());
  EXPECT_EQ(hot.size(), 0u);
  EXPECT_EQ(Find(hot, 0), nullptr);
  hot.WriteThrough(rows.shard(0), rows.ref(0), rows.row(0));
  hot.Drop(rows.shard(0), rows.ref(0));
  hot.Rebuild(rows.all());
  EXPECT_NE(Find(hot, 0), nullptr);
}

}  // namespace
}  // namespace mxrec
