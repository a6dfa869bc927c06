// ReadRange against a loop over a map, with every instruction set.
#include "table/read_pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <random>

#include "index/key_hash.h"
#include "kernels/instruction_sets.h"
#include "table/row_format.h"

namespace mxrec {
namespace {

using testing::ForEachInstructionSet;

struct Place {
  uint32_t shard;
  RowRef ref;
  std::vector<float> row;
};

// Shards filled by hand, and what is in them.
class Fixture {
 public:
  Fixture(int dim, ValueType type, int shard_bits, std::mt19937_64* rng)
      : dim_(dim), bits_(shard_bits), format_(Options(dim, type)), hot_(Bytes(), true), rng_(*rng) {
    for (uint32_t s = 0; s < uint32_t{1} << bits_; ++s) {
      shards_.push_back(std::make_unique<Shard>(s, &index_pages_, &row_pages_, bits_,
                                                static_cast<int>(format_.stored_floats(1))));
    }
  }

  void Add(int64_t key) {
    if (places_.contains(key)) return;
    const uint64_t hash = HashKey(key);
    const uint32_t s = ShardOf(hash, bits_);
    const RowRef ref = shards_[s]->arena->Allocate();
    ASSERT_TRUE(shards_[s]->index.Insert(hash, key, ref));
    Place place{s, ref, std::vector<float>(static_cast<size_t>(dim_))};
    for (float& v : place.row) v = static_cast<float>(static_cast<int>(rng_() % 201) - 100);
    format_.Store(place.row.data(), shards_[s]->arena->Row(ref));
    places_[key] = std::move(place);
  }
  void Heat(size_t rows) {
    std::vector<HotRows::Row> hot;
    for (const auto& [key, place] : places_) {
      if (hot.size() == rows) break;
      hot.push_back({key, place.shard, place.ref, shards_[place.shard]->arena->Row(place.ref)});
    }
    hot_.Rebuild(hot);
  }
  // Erases one row as a table does.
  void Remove(int64_t key) {
    const Place place = places_.at(key);
    shards_[place.shard]->index.Erase(HashKey(key), key);
    hot_.Drop(place.shard, place.ref);
    shards_[place.shard]->arena->Free(place.ref, key);
    places_.erase(key);
  }

  // Reads [begin, end) with and without traces and compares all with the loop.
  template <class Key>
  void Check(const std::vector<Key>& keys, size_t begin, size_t end, bool with_absent) {
    const auto dim = static_cast<size_t>(dim_);
    const std::vector<float> absent(dim, 12345.0f);
    const float* absent_row = with_absent ? absent.data() : nullptr;
    std::vector<float> expected(keys.size() * dim, -7.0f);
    size_t found = 0, hot = 0;
    std::vector<std::vector<RowRef>> refs(shards_.size());
    std::vector<uint32_t> hot_uses(hot_.any() ? hot_.places() : 0), missing;
    for (size_t i = begin; i < end; ++i) {
      const auto it = places_.find(keys[i]);
      if (it == places_.end()) {
        missing.push_back(static_cast<uint32_t>(i));
        std::fill_n(&expected[i * dim], dim, with_absent ? 12345.0f : 0.0f);
        continue;
      }
      ++found;
      std::copy_n(it->second.row.data(), dim, &expected[i * dim]);
      const size_t place = hot_.view().PlaceOf(HashKey(keys[i]));
      if (hot_.any() && hot_.view().keys[place] == static_cast<int64_t>(keys[i])) {
        ++hot_uses[place];
        ++hot;
      } else {
        refs[it->second.shard].push_back(it->second.ref);
      }
    }
    ReadView view;
    MakeReadView(shards_, bits_, hot_, &view);
    UsedRows used;
    used.Clear(static_cast<int>(shards_.size()), hot_uses.size());
    for (UsedRows* traces : {static_cast<UsedRows*>(nullptr), &used}) {
      std::vector<float> out(keys.size() * dim, -7.0f);
      const ReadResult read = ReadRange(view, keys, begin, end, format_.ChooseCopier(keys.size()),
                                        dim_, Bytes(), absent_row, out.data(), traces);
      ASSERT_EQ(read.found, found);
      ASSERT_EQ(read.hot, hot);
      ASSERT_TRUE(out == expected);
    }
    ASSERT_EQ(used.hot_uses, hot_uses);
    ASSERT_EQ(used.missing, missing);
    for (size_t s = 0; s < shards_.size(); ++s) ASSERT_EQ(used.refs[s], refs[s]);
  }
  const std::map<int64_t, Place>& places() const { return places_; }
  const HotRows& hot() const { return hot_; }

 private:
  static TableOptions Options(int dim, ValueType type) {
    TableOptions options;
    options.dim = dim;
    options.value_type = type;
    return options;
  }
  size_t Bytes() const { return format_.embedding_bytes(); }

  int dim_, bits_;
  RowFormat format_;
  PageAllocator index_pages_, row_pages_;
  std::vector<std::unique_ptr<Shard>> shards_;
  HotRows hot_;
  std::map<int64_t, Place> places_;
  std::mt19937_64& rng_;
};

constexpr ValueType kTypes[] = {ValueType::kFloat32, ValueType::kFloat16, ValueType::kBfloat16};

template <class Key>
std::vector<Key> Draw(std::mt19937_64* rng, size_t n) {
  std::vector<Key> keys(n);
  for (Key& key : keys) {
    switch ((*rng)() % 8) {
      case 0:
        key = std::numeric_limits<Key>::min();
        break;
      case 1:
        key = std::numeric_limits<Key>::max();
        break;
      default:
        key = static_cast<Key>(static_cast<int64_t>((*rng)() % 400) - 100);
    }
  }
  return keys;
}

template <class Key>
void CheckAllSizes(uint64_t seed) {
  std::mt19937_64 rng(seed);
  const int dim = std::array{1, 3, 8, 17, 32, 100}[rng() % 6];
  Fixture fixture(dim, kTypes[rng() % 3], static_cast<int>(rng() % 4) * 2, &rng);
  for (const int64_t rows : {0, 1, 150}) {
    for (int64_t i = 0; i < rows; ++i) fixture.Add(static_cast<int64_t>(rng() % 400) - 100);
    if (rows > 1) {
      fixture.Add(std::numeric_limits<Key>::min());
      fixture.Add(std::numeric_limits<Key>::max());
    }
    for (const size_t hot : {0, 1, 60}) {
      fixture.Heat(hot);
      if (hot == 60 && rows == 150) fixture.Remove(fixture.places().begin()->first);
      for (size_t n = 0; n <= 100; ++n) {
        fixture.Check(Draw<Key>(&rng, n), 0, n, n % 2 == 0);
        if (::testing::Test::HasFatalFailure()) return;
      }
      // A part of a batch: the rest of out stays.
      for (int i = 0; i < 20; ++i) {
        const std::vector<Key> keys = Draw<Key>(&rng, 200);
        const size_t begin = rng() % 200, end = begin + rng() % (201 - begin);
        fixture.Check(keys, begin, end, i % 2 == 0);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(ReadPipelineTest, EqualsALoopForAllSizes) {
  ForEachInstructionSet([] {
    const char* replay = std::getenv("MXREC_TEST_SEED");
    const uint64_t first = replay == nullptr ? 1 : std::strtoull(replay, nullptr, 10);
    for (uint64_t seed = first; seed < first + (replay == nullptr ? 12 : 1); ++seed) {
      SCOPED_TRACE("replay with MXREC_TEST_SEED=" + std::to_string(seed));
      CheckAllSizes<int64_t>(seed);
      CheckAllSizes<int32_t>(seed);
      if (::testing::Test::HasFatalFailure()) return;
    }
  });
}

// Keys of one bucket spill into those behind it; a probe must follow them.
TEST(ReadPipelineTest, FollowsFullBuckets) {
  ForEachInstructionSet([] {
    std::mt19937_64 rng(9);
    Fixture fixture(4, ValueType::kFloat32, 0, &rng);
    std::vector<int64_t> crowd;
    for (int64_t key = 0; crowd.size() < 40; ++key) {
      if (KeyIndex::BucketOf(HashKey(key)) == 1023) crowd.push_back(key);  // the last: they wrap
    }
    // Every other one has a row.
    for (size_t i = 0; i < crowd.size(); i += 2) fixture.Add(crowd[i]);
    fixture.Check(crowd, 0, crowd.size(), false);
    fixture.Heat(5);
    fixture.Check(crowd, 0, crowd.size(), true);
    for (int i = 0; i < 5; ++i) fixture.Remove(fixture.places().begin()->first);
    fixture.Check(crowd, 0, crowd.size(), true);
  });
}

TEST(ReadPipelineTest, FollowsTheDirectoryOverManySegments) {
  std::mt19937_64 rng(11);
  for (const int bits : {0, 3}) {
    Fixture fixture(3, ValueType::kFloat32, bits, &rng);
    for (int i = 0; i < 60000; ++i) fixture.Add(static_cast<int64_t>(rng() % 100000));
    std::vector<int64_t> keys(20000);
    for (int64_t& key : keys) key = static_cast<int64_t>(rng() % 100000);
    fixture.Check(keys, 0, keys.size(), false);
    fixture.Heat(3000);
    ASSERT_GT(fixture.hot().size(), 1000u);
    fixture.Check(keys, 0, keys.size(), true);
  }
}

// A key that stands for an empty place is absent, or has a row of its own, like any other.
TEST(ReadPipelineTest, KeysThatStandForEmptyPlacesAreKeys) {
  std::mt19937_64 rng(13);
  Fixture fixture(4, ValueType::kFloat32, 1, &rng);
  fixture.Add(1 << 20);
  fixture.Heat(1);
  std::vector<int64_t> keys(fixture.hot().view().keys,
                            fixture.hot().view().keys + fixture.hot().places());
  fixture.Check(keys, 0, keys.size(), true);
  for (const int64_t key : keys) fixture.Add(key);
  fixture.Check(keys, 0, keys.size(), true);
  fixture.Heat(10);
  fixture.Check(keys, 0, keys.size(), true);
}

}  // namespace
}  // namespace mxrec
