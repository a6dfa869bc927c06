// Which keys the addresses of rows meant that have left memory.
#include "tier/address_trail.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace mxrec {
namespace {

int64_t KeyAt(const AddressTrail& trail, RowRef ref, uint16_t generation) {
  int64_t key = -1;
  return trail.Find(ref, generation, &key) ? key : -1;
}

TEST(AddressTrailTest, AnAddressOutlivesItsRowByBatchesAndSteps) {
  AddressTrail trail;
  trail.Add(7, 1, 70, {0, 0});
  constexpr uint32_t kBatches = AddressTrail::kBatches, kSteps = AddressTrail::kSteps;
  for (const auto now : {AddressTrail::Time{kBatches, kSteps + 1},
                         {kBatches + 1, kSteps},
                         {AddressTrail::kMostBatches, kSteps}}) {
    trail.ForgetOld(now);
    EXPECT_EQ(KeyAt(trail, 7, 1), 70);
  }
  trail.ForgetOld({kBatches + 1, kSteps + 1});
  EXPECT_EQ(KeyAt(trail, 7, 1), -1);

  trail.Add(7, 3, 71, {100, 20});
  trail.ForgetOld({100 + AddressTrail::kMostBatches + 1, 20});
  EXPECT_EQ(KeyAt(trail, 7, 3), -1) << "steps that never end";
}

TEST(AddressTrailTest, TimeWrapsAround) {
  AddressTrail trail;
  const uint32_t last = 0xFFFFFFFF;
  trail.Add(1, 1, 10, {last, last});
  trail.ForgetOld({last + AddressTrail::kBatches, last + 100});
  EXPECT_EQ(KeyAt(trail, 1, 1), 10);
  trail.ForgetOld({last + AddressTrail::kBatches + 1, last + 100});
  EXPECT_EQ(KeyAt(trail, 1, 1), -1);
}

// Few slots, so that each leaves many times while it is remembered, and some not for long.
TEST(AddressTrailTest, AsAListOfAllThatHaveLeft) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    AddressTrail trail((uint64_t{1} << 32) - random() % 2000);  // its numbers wrap around
    struct Left {
      AddressTrail::Time time;
      int64_t key;
    };
    std::map<std::pair<RowRef, uint16_t>, Left> model;
    std::map<RowRef, uint16_t> generations;
    AddressTrail::Time now{static_cast<uint32_t>(random()), static_cast<uint32_t>(random())};
    const auto is_old = [&](const auto& each) {
      const uint32_t batches = now.batches - each.second.time.batches;
      return batches > AddressTrail::kMostBatches ||
             (batches > AddressTrail::kBatches &&
              now.steps - each.second.time.steps > AddressTrail::kSteps);
    };
    const RowRef slots = 1 + static_cast<RowRef>(random() % 40);
    for (int step = 0; step < 600; ++step) {
      now.batches += static_cast<uint32_t>(random() % 5);
      now.steps += static_cast<uint32_t>(random() % 2);
      trail.ForgetOld(now);
      std::erase_if(model, is_old);
      for (uint64_t i = random() % 6; i > 0; --i) {
        const auto ref = static_cast<RowRef>(random() % slots * (random() % slots) % slots);
        const uint16_t generation = generations[ref] += 2;
        const auto key = static_cast<int64_t>(random() % 60);
        trail.Add(ref, generation, key, now);
        model[{ref, generation}] = {now, key};
      }
      if (random() % 3 == 0) {
        const auto key = static_cast<int64_t>(random() % 60);
        trail.Gone(key);
        std::erase_if(model, [&](const auto& each) { return each.second.key == key; });
      }
      for (RowRef ref = 0; ref < slots + 2; ++ref) {
        for (int back = -2; back < 20; back += 2) {
          const auto generation = static_cast<uint16_t>(generations[ref] - back);
          const auto found = model.find({ref, generation});
          ASSERT_EQ(KeyAt(trail, ref, generation), found == model.end() ? -1 : found->second.key);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mxrec
