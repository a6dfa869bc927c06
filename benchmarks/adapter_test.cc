// Every adapter does what adapters/adapter.h says, against a std::map.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include "adapters/all.h"
#include "latency.h"
#include "workload.h"

namespace mxrec::bench {
namespace {

uint64_t Seed() {
  const char* text = std::getenv("MXREC_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

template <typename Adapter>
class AdapterTest : public testing::Test {
 protected:
  static constexpr int64_t kRows = 20'000;
  // Duplicate keys are updated in different ways (adapter.h), so updates get distinct ones.
  static Batch DistinctKeys(int64_t begin, int64_t end) { return KeysOfRanks(begin, end); }

  std::vector<float> RandomValues(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = uniform_(random_);
    return values;
  }

  std::mt19937_64 random_{Seed()};
  std::uniform_real_distribution<float> uniform_{-1.0f, 1.0f};
};

template <typename List>
struct AsTypes;
template <typename... Adapters>
struct AsTypes<AdapterList<Adapters...>> {
  using type = testing::Types<Adapters...>;
};

struct Names {
  template <typename Adapter>
  static std::string GetName(int) {
    std::string name;
    for (const char* c = Adapter::kName; *c != 0; ++c) name += std::isalnum(*c) ? *c : '_';
    return name;
  }
};

TYPED_TEST_SUITE(AdapterTest, typename AsTypes<AllAdapters>::type, Names);

TYPED_TEST(AdapterTest, ReadsWhatWasInserted) {
  SCOPED_TRACE("MXREC_TEST_SEED=" + std::to_string(Seed()));
  for (const int dim : {8, 32, 128}) {
    ASSERT_TRUE(TypeParam::Supports(dim));
    TypeParam adapter(AdapterOptions{dim, this->kRows});
    EXPECT_EQ(adapter.size(), 0);
    std::map<int64_t, std::vector<float>> model;
    for (int64_t begin = 0; begin < this->kRows; begin += 4096) {
      const Batch keys = KeysOfRanks(begin, std::min(this->kRows, begin + 4096));
      const std::vector<float> values = this->RandomValues(keys.size() * dim);
      adapter.Insert(keys, values.data());
      for (size_t i = 0; i < keys.size(); ++i) {
        model[keys[i]].assign(values.begin() + i * dim, values.begin() + (i + 1) * dim);
      }
    }
    EXPECT_EQ(adapter.size(), this->kRows);
    // Sizes around the pipelines' depth and the grain of threads, with duplicates.
    for (const size_t size : {0u, 1u, 23u, 24u, 25u, 48u, 49u, 2048u, 10'001u}) {
      const Batch keys = DrawKeys(Law{1.05}, this->kRows, size, 1, Seed() + size).front();
      std::vector<float> out(size * dim, -2.0f);
      adapter.Find(keys, out.data());
      for (size_t i = 0; i < size; ++i) {
        ASSERT_TRUE(std::equal(model[keys[i]].begin(), model[keys[i]].end(), &out[i * dim]))
            << "key " << keys[i] << " at " << i << " of " << size;
      }
    }
    // A key that is there gets new values.
    const Batch again = KeysOfRanks(0, 1);
    const std::vector<float> values = this->RandomValues(dim);
    adapter.Insert(again, values.data());
    std::vector<float> out(dim);
    adapter.Find(again, out.data());
    EXPECT_EQ(out, values);
    EXPECT_EQ(adapter.size(), this->kRows);
  }
}

TYPED_TEST(AdapterTest, TrainsAsAdagradDoes) {
  if constexpr (Trainable<TypeParam>) {
    constexpr int kDim = 16;
    constexpr size_t kKeys = 5000;
    TypeParam adapter(AdapterOptions{kDim, this->kRows});
    const Batch keys = KeysOfRanks(0, kKeys);
    std::vector<float> out(kKeys * kDim);
    adapter.FindOrInit(keys, out.data());
    EXPECT_EQ(out, std::vector<float>(kKeys * kDim, kInitialValue));
    EXPECT_EQ(adapter.size(), static_cast<int64_t>(kKeys));

    std::vector<float> rows = out;
    std::vector<float> accumulators(kKeys * kDim, kInitialAccumulator);
    for (int step = 0; step < 3; ++step) {
      const std::vector<float> grads = this->RandomValues(kKeys * kDim);
      adapter.Update(keys, grads.data());
      for (size_t i = 0; i < rows.size(); ++i) {
        accumulators[i] += grads[i] * grads[i];
        rows[i] -= kLearningRate * grads[i] / std::sqrt(accumulators[i]);
      }
    }
    adapter.FindOrInit(keys, out.data());
    for (size_t i = 0; i < rows.size(); ++i) ASSERT_NEAR(out[i], rows[i], 1e-6f) << i;
  } else {
    GTEST_SKIP() << TypeParam::kName << " is measured on lookups alone";
  }
}

TYPED_TEST(AdapterTest, ErasesAndForgets) {
  if constexpr (Trainable<TypeParam>) {
    constexpr int kDim = 8;
    TypeParam adapter(AdapterOptions{kDim, this->kRows});
    const Batch keys = KeysOfRanks(0, 6000);
    const std::vector<float> values(keys.size() * kDim, 3.0f);
    adapter.Insert(keys, values.data());
    adapter.Update(keys, values.data());
    EXPECT_EQ(adapter.Erase(KeysOfRanks(2000, 8000)), 4000);  // 2,000 of them were never there
    EXPECT_EQ(adapter.Erase(KeysOfRanks(2000, 3000)), 0);
    EXPECT_EQ(adapter.size(), 2000);
    std::vector<float> out(4000 * kDim);
    adapter.FindOrInit(KeysOfRanks(2000, 6000), out.data());
    EXPECT_EQ(out, std::vector<float>(out.size(), kInitialValue));
    EXPECT_EQ(adapter.size(), 6000);
    adapter.Find(KeysOfRanks(0, 2000), out.data());
    EXPECT_LT(out.front(), 3.0f);
    EXPECT_GT(out.front(), 2.9f);
  } else {
    GTEST_SKIP() << TypeParam::kName << " is measured on lookups alone";
  }
}

TEST(HashGatherTest, GathersKnownRows) {
  HashGather probe(AdapterOptions{24, 3000});
  const Batch keys = KeysOfRanks(0, 3000);
  std::vector<float> values(keys.size() * 24), found(values.size()), gathered(values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  probe.Insert(keys, values.data());
  const std::vector<Batch> ranks = DrawRanks(Law{0.8}, 3000, 3000, 1, 5);
  probe.Find(DrawKeys(Law{0.8}, 3000, 3000, 1, 5).front(), found.data());
  probe.Gather(ranks.front(), gathered.data());
  EXPECT_EQ(found, gathered);
}

TEST(LatencyTest, PercentilesAreValuesThatOccurred) {
  EXPECT_EQ(Percentile({3, 1, 2, 4}, 0.5), 2);
  EXPECT_EQ(Percentile({3, 1, 2, 4}, 0.99), 4);
  EXPECT_EQ(Percentile({3, 1, 2, 4}, 0.0), 1);
  EXPECT_EQ(Percentile({}, 0.5), 0);
}

TEST(WorkloadTest, PopularityFollowsTheLaw) {
  constexpr int64_t kRows = 1000;
  for (const Law law : {Law{}, Law{0.8}, Law{1.0}, Law{1.05}, Law{1.2}}) {
    int64_t first_ten = 0, count = 0;
    for (const Batch& batch : DrawRanks(law, kRows, 10'000, 10, Seed())) {
      for (const int64_t rank : batch) {
        ASSERT_GE(rank, 0);
        ASSERT_LT(rank, kRows);
        first_ten += rank < 10 ? 1 : 0;
        ++count;
      }
    }
    // Integral of x^-a over [1, 11] by that over [1, 1000].
    const double power = 1.0 - law.exponent;
    const double share = law.uniform() ? 0.01
                         : std::abs(power) < 1e-9
                             ? std::log(11.0) / std::log(1000.0)
                             : (std::pow(11.0, power) - 1.0) / (std::pow(1000.0, power) - 1.0);
    EXPECT_NEAR(static_cast<double>(first_ten) / static_cast<double>(count), share, 0.01)
        << law.name();
  }
}

}  // namespace
}  // namespace mxrec::bench
