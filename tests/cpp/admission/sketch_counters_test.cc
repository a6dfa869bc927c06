#include "admission/sketch_counters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "index/key_hash.h"
#include "optimizers/random_seed.h"

namespace mxrec {
namespace {

constexpr uint64_t kEnd = uint64_t{1} << 32;

// A sketch over 2^shard_bits shards.
class Sharded {
 public:
  Sharded(int64_t expected_keys, int shard_bits) : shard_bits_(shard_bits) {
    for (uint32_t s = 0; s < 1u << shard_bits; ++s) {
      shards_.push_back(std::make_unique<SketchCounters>(&pages_, expected_keys, shard_bits, s));
    }
  }
  void Count(int64_t key, uint32_t more) {
    const uint64_t hash = HashKey(key);
    bool fresh;
    const uint32_t place = Of(hash).Reserve(hash, key, &fresh);
    ASSERT_NE(place, KeyCounters::kNothing);
    ASSERT_FALSE(fresh);
    Of(hash).Commit(hash, key, place, more, 0);
  }
  uint32_t Peek(int64_t key) const {
    const uint64_t hash = HashKey(key);
    return const_cast<Sharded*>(this)->Of(hash).Peek(hash, key).count;
  }
  RowBlock Scan() const {
    RowBlock block;
    for (const auto& shard : shards_) {
      for (uint64_t position = 0; position < kEnd;) shard->Scan(std::nullopt, &position, &block);
    }
    return block;
  }
  void Load(const RowBlock& block, int64_t expected_keys) {
    const uint64_t own = SketchCounters::Blocks(expected_keys) >> shard_bits_;
    for (size_t i = 0; i < block.size(); ++i) {
      const auto s = static_cast<uint64_t>(block.keys[i]) / own;
      ASSERT_EQ(shards_[s]->Load(block, i, false), KeyCounters::Loaded::kDone);
      ASSERT_EQ(shards_[s]->Load(block, i, false), KeyCounters::Loaded::kTwice);
    }
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const auto& shard : shards_) sum += shard->bytes();
    return sum;
  }
  int64_t held_bytes() const { return pages_.held_bytes(); }

 private:
  SketchCounters& Of(uint64_t hash) { return *shards_[ShardOf(hash, shard_bits_)]; }
  int shard_bits_;
  PageAllocator pages_;
  std::vector<std::unique_ptr<SketchCounters>> shards_;
};

TEST(SketchCountersTest, CountsAreNeverTooSmallBeforeABlockAges) {
  MXREC_TRACE_SEED();
  std::mt19937_64 rng(testing::TestSeed());
  Sharded sketch(100'000, 2);
  std::map<int64_t, uint32_t> exact;
  // Far fewer keys than the sketch is made for: no block comes to age.
  for (int i = 0; i < 60'000; ++i) {
    const auto key = static_cast<int64_t>(rng() % 20'000) - 500;
    const auto more = 1 + static_cast<uint32_t>(rng() % 2);
    sketch.Count(key, more);
    exact[key] += more;
  }
  int64_t too_large = 0;
  for (const auto& [key, count] : exact) {
    const uint32_t seen = sketch.Peek(key);
    ASSERT_GE(seen, std::min(count, SketchBlock::kMost));
    too_large += seen > std::min(count, SketchBlock::kMost);
  }
  EXPECT_LT(too_large, static_cast<int64_t>(exact.size()) / 50);
}

TEST(SketchCountersTest, AnyNumberOfShardsCountsAlikeAndLoadsTheOther) {
  MXREC_TRACE_SEED();
  for (const int64_t expected : {1, 5000, 300'000}) {
    std::mt19937_64 rng(testing::TestSeed());
    std::vector<int64_t> keys(200'000);
    for (int64_t& key : keys) key = static_cast<int64_t>(rng() % 400'000);
    Sharded one(expected, 0);
    for (const int64_t key : keys) one.Count(key, 1);
    const RowBlock saved = one.Scan();
    EXPECT_EQ(saved.values.size(), saved.size() * 16);
    for (const int bits : {1, 4, 8}) {
      Sharded many(expected, bits), loaded(expected, bits);
      for (const int64_t key : keys) many.Count(key, 1);
      const RowBlock scanned = many.Scan();
      ASSERT_EQ(scanned.keys, saved.keys);
      ASSERT_EQ(std::memcmp(scanned.values.data(), saved.values.data(),
                            saved.values.size() * sizeof(float)),
                0);
      loaded.Load(saved, expected);
      for (const int64_t key : keys) {
        ASSERT_EQ(many.Peek(key), one.Peek(key));
        ASSERT_EQ(loaded.Peek(key), one.Peek(key));
      }
      // Blocks age at the same moment afterwards, too.
      for (int64_t key = 0; key < 5000; ++key) loaded.Count(~key, 1);
      for (int64_t key = 0; key < 5000; ++key) many.Count(~key, 1);
      ASSERT_EQ(std::memcmp(loaded.Scan().values.data(), many.Scan().values.data(),
                            many.Scan().values.size() * sizeof(float)),
                0);
    }
  }
}

TEST(SketchCountersTest, TakesFourBytesAnExpectedKeyAndNothingBeforeItIsUsed) {
  for (const int bits : {0, 3, 6, 8}) {
    constexpr int64_t kKeys = 2'000'000;
    Sharded sketch(kKeys, bits);
    EXPECT_EQ(sketch.held_bytes(), 0);
    for (int64_t key = 0; key < kKeys; ++key) sketch.Count(key, 1);
    const int64_t rounding = int64_t{5} << 10 << bits;  // a page a shard, and what finds the chunks
    EXPECT_LE(sketch.bytes(), 4 * kKeys + rounding) << "2^" << bits << " shards";
    EXPECT_LE(sketch.held_bytes(), 4 * kKeys + rounding + (4 << 20));
  }
  Sharded small(1, 8);
  small.Count(1, 1);
  EXPECT_LE(small.bytes(), (4 << 10) + 256 * 16);
}

// docs/admission-and-eviction.md: among m additions to its block, a key that was seen c < T times
// is taken for one that was seen T times with probability at most (m / (31 (T - c)))^4.
TEST(SketchCountersTest, EarlyAdmissionStaysWithinTheBound) {
  MXREC_TRACE_SEED();
  constexpr int64_t kKeys = 1'000'000;
  constexpr uint32_t kThreshold = 3;
  Sharded sketch(kKeys, 0);
  const uint64_t blocks = SketchCounters::Blocks(kKeys);
  std::vector<int> additions(blocks);
  const auto block_of = [&](int64_t key) { return (HashKey(key) >> 32) * blocks >> 32; };
  // Each key once: c = 1 for all that is asked below.
  for (int64_t key = 0; key < kKeys / 2; ++key) {
    sketch.Count(key, 1);
    ++additions[block_of(key)];
  }
  double expected = 0;
  int64_t early = 0;
  for (int64_t key = 0; key < kKeys / 2; ++key) {
    early += sketch.Peek(key) >= kThreshold;
    expected += std::min(1.0, std::pow(additions[block_of(key)] / (31.0 * (kThreshold - 1)), 4));
  }
  EXPECT_LE(static_cast<double>(early), expected);
}

TEST(SketchCountersTest, NoMemoryChangesNothing) {
  PageAllocator pages;
  SketchCounters sketch(&pages, 1'000'000, 0, 0);
  bool fresh;
  PageAllocator::FailAllocation(0);
  EXPECT_EQ(sketch.Reserve(HashKey(5), 5, &fresh), KeyCounters::kNothing);
  PageAllocator::FailAllocation(-1);
  EXPECT_EQ(sketch.Peek(HashKey(5), 5).count, 0u);
  EXPECT_EQ(sketch.page_bytes(), 0);
  EXPECT_NE(sketch.Reserve(HashKey(5), 5, &fresh), KeyCounters::kNothing);
}

}  // namespace
}  // namespace mxrec
