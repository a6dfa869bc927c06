#include "table/hot_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <thread>

namespace mxrec {
namespace {

constexpr size_t kPlaces = 4096;
constexpr size_t kBatch = 65536;

using Batch = std::vector<int64_t>;

// Zipf-distributed ranks below n: rank r with a probability proportional to (r + 1)^-exponent.
class Zipf {
 public:
  Zipf(size_t n, double exponent, uint64_t seed) : cumulative_(n), rng_(seed) {
    double sum = 0;
    for (size_t r = 0; r < n; ++r) {
      cumulative_[r] = sum += std::pow(static_cast<double>(r + 1), -exponent);
    }
  }
  int64_t operator()() {
    std::uniform_real_distribution<double> uniform(0, cumulative_.back());
    return std::upper_bound(cumulative_.begin(), cumulative_.end(), uniform(rng_)) -
           cumulative_.begin();
  }

 private:
  std::vector<double> cumulative_;
  std::mt19937_64 rng_;
};

Batch Make(size_t n, const std::function<int64_t()>& key) {
  Batch batch(n);
  std::generate(batch.begin(), batch.end(), key);
  return batch;
}

std::vector<Batch> Batches(const std::function<int64_t()>& key, size_t n = kBatch) {
  std::vector<Batch> batches;
  for (int i = 0; i < 16; ++i) batches.push_back(Make(n, key));
  return batches;
}

// Feeds batches, over and over, until the sampler has candidates. *fed: batches that took.
std::vector<int64_t> Next(HotSampler* sampler, const std::vector<Batch>& batches,
                          size_t* fed = nullptr) {
  for (size_t i = 0; i < 100000; ++i) {
    if (!sampler->Sample(batches[i % batches.size()])) continue;
    if (fed != nullptr) *fed += i + 1;
    return sampler->Candidates().value();
  }
  ADD_FAILURE() << "the sampler never has candidates";
  return {};
}

size_t HeldOfTop(const std::vector<int64_t>& candidates, int64_t from, int64_t top) {
  return static_cast<size_t>(std::count_if(candidates.begin(), candidates.end(), [&](int64_t key) {
    return key >= from && key < from + top;
  }));
}

TEST(HotSamplerTest, FindsTheFrequentKeysOfAZipfDistribution) {
  for (const double exponent : {1.05, 1.2}) {
    HotSampler sampler(kPlaces);
    const auto batches = Batches(Zipf(1000000, exponent, 3));
    size_t fed = 0;
    std::vector<int64_t> candidates = Next(&sampler, batches, &fed);
    EXPECT_LE(fed, 8u);  // 512 of a batch, 4096 in all
    EXPECT_GE(HeldOfTop(candidates, 0, 50), 45u) << exponent;
    // The more it has seen the more of them it knows.
    for (int round = 0; round < 3; ++round) candidates = Next(&sampler, batches);
    EXPECT_GE(HeldOfTop(candidates, 0, 500), 400u) << exponent;
    EXPECT_LE(candidates.size(), kPlaces);
    EXPECT_EQ(std::set<int64_t>(candidates.begin(), candidates.end()).size(), candidates.size());
    // Most frequent first.
    EXPECT_LT(std::find(candidates.begin(), candidates.end(), 0) - candidates.begin(), 5);
  }
}

TEST(HotSamplerTest, EvenKeysAreNotWorthAPlace) {
  std::mt19937_64 rng(5);
  HotSampler sampler(kPlaces);
  const auto batches = Batches([&] { return static_cast<int64_t>(rng() % 5000000); });
  for (int round = 0; round < 4; ++round) EXPECT_TRUE(Next(&sampler, batches).empty());
}

TEST(HotSamplerTest, TooSmallAShareIsNotWorthIt) {
  std::mt19937_64 rng(5);
  const auto with_share = [&](int percent) {
    HotSampler sampler(kPlaces);
    return Next(&sampler, Batches([&] {
      return rng() % 100 < static_cast<uint64_t>(percent)
                 ? static_cast<int64_t>(rng() % 4)
                 : 10 + static_cast<int64_t>(rng() % 1000000000);
    }));
  };
  EXPECT_TRUE(with_share(10).empty());
  const auto candidates = with_share(30);
  EXPECT_EQ(HeldOfTop(candidates, 0, 4), 4u);
}

TEST(HotSamplerTest, FewKeysAreAllHot) {
  std::mt19937_64 rng(5);
  HotSampler sampler(kPlaces);
  const auto candidates =
      Next(&sampler, Batches([&] { return static_cast<int64_t>(rng() % 100); }));
  EXPECT_EQ(candidates.size(), 100u);
  HotSampler two_places(2);
  EXPECT_EQ(Next(&two_places, Batches([&] { return static_cast<int64_t>(rng() % 4); })).size(), 2u);
}

// However long the old keys were asked for, and in batches of every size.
TEST(HotSamplerTest, ANewHotSetReplacesTheOldOne) {
  struct Case {
    size_t keys;
    int rounds;
    size_t within;  // batches
  };
  // At most 65536 samples, from one batch in 32, of which 512 or keys / 128 are taken; the second
  // candidates after the change have forgotten the old keys.
  for (const Case& c : {Case{kBatch, 2, 3 * 128 * 32}, Case{kBatch, 12, 3 * 128 * 32},
                        Case{8192, 4, 3 * 1024 * 32}}) {
    HotSampler sampler(kPlaces);
    Zipf zipf(100000, 1.2, 7);
    const auto old_keys = Batches([&] { return zipf(); }, c.keys);
    const auto new_keys = Batches([&] { return 1000000 + zipf(); }, c.keys);
    std::vector<int64_t> candidates;
    for (int round = 0; round < c.rounds; ++round) candidates = Next(&sampler, old_keys);
    EXPECT_GE(HeldOfTop(candidates, 0, 50), 45u);
    size_t fed = 0;
    while (fed < c.within && HeldOfTop(candidates, 1000000, 50) < 45) {
      candidates = Next(&sampler, new_keys, &fed);
    }
    EXPECT_GE(HeldOfTop(candidates, 1000000, 50), 45u) << c.rounds;
    EXPECT_LE(fed, c.within);
    // The old ones go, the most frequent last: each time half of their count.
    for (int round = 0; round < 16; ++round) candidates = Next(&sampler, new_keys);
    EXPECT_EQ(HeldOfTop(candidates, 0, 100000), 0u);
  }
}

TEST(HotSamplerTest, EvenKeysAfterSkewedOnesEndTheHotSetAndSkewedOnesBringItBack) {
  std::mt19937_64 rng(5);
  HotSampler sampler(kPlaces);
  const auto skewed = Batches(Zipf(100000, 1.2, 7));
  const auto even = Batches([&] { return static_cast<int64_t>(rng() % 50000000); });
  for (int round = 0; round < 3; ++round) EXPECT_FALSE(Next(&sampler, skewed).empty());
  std::vector<int64_t> candidates;
  for (int round = 0; round < 6; ++round) candidates = Next(&sampler, even);
  EXPECT_TRUE(candidates.empty());
  for (int round = 0; round < 4; ++round) candidates = Next(&sampler, skewed);
  EXPECT_GE(HeldOfTop(candidates, 0, 50), 45u);
}

TEST(HotSamplerTest, TinyBatchesAndEarlyQuestionsGetNoAnswer) {
  HotSampler sampler(kPlaces);
  EXPECT_FALSE(sampler.Candidates().has_value());
  for (int i = 0; i < 20000; ++i) {
    ASSERT_FALSE(sampler.Sample(Batch(31, 1)));
    ASSERT_FALSE(sampler.Sample(Batch()));
  }
  EXPECT_FALSE(sampler.Candidates().has_value());
  const std::vector<int32_t> narrow(32, -5);
  int samples = 0;
  while (!sampler.Sample(narrow)) ++samples;
  EXPECT_EQ(samples, 4095);
  EXPECT_EQ(sampler.Candidates().value(), Batch{-5});
  EXPECT_FALSE(sampler.Candidates().has_value()) << "they are taken once";
}

TEST(HotSamplerTest, ThreadsShareIt) {
  HotSampler sampler(kPlaces);
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Zipf zipf(10000, 1.2, static_cast<uint64_t>(t));
      const Batch batch = Make(8192, [&] { return zipf(); });
      for (int i = 0; i < 1000; ++i) {
        if (!sampler.Sample(batch)) continue;
        if (const auto candidates = sampler.Candidates()) {
          ++taken;
          EXPECT_FALSE(candidates->empty());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(taken, 0);
}

}  // namespace
}  // namespace mxrec
