#include "table/hot_sampler.h"

#include <algorithm>
#include <iterator>

namespace mxrec {
namespace {

constexpr size_t kKeysPerSample = 64;  // one key of so many is sampled
constexpr size_t kMostSamples = 1024;  // of a batch
constexpr size_t kFewestKeys = 32;     // smaller batches are not worth it
constexpr size_t kFirst = 4096, kMost = size_t{1} << 16;
constexpr uint32_t kRarest = 16;  // batches between samples while nothing changes
// A set that holds a smaller share of the lookups costs every key more than it saves the hot ones.
constexpr double kLeastShare = 0.15;
// Keys after which the share of hot ones is looked at.
constexpr uint64_t kObserved = uint64_t{1} << 18;

}  // namespace

bool HotSampler::Sample(KeySpan keys) {
  if (keys.size() < kFewestKeys) return false;
  if (batches_.fetch_add(1, std::memory_order_relaxed) % every_.load(std::memory_order_relaxed)) {
    return false;
  }
  if (!mu_.try_lock()) return false;
  const MutexLock lock(mu_, std::adopt_lock);
  const size_t n = std::clamp(keys.size() / kKeysPerSample, size_t{1}, kMostSamples);
  for (size_t i = 0; i < n; ++i) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    samples_.push_back(keys[static_cast<size_t>((random_ >> 32) * keys.size() >> 32)]);
  }
  return samples_.size() >= wanted_;
}

void HotSampler::Observe(size_t keys, size_t hot) {
  hot_.fetch_add(hot, std::memory_order_relaxed);
  if (seen_.fetch_add(keys, std::memory_order_relaxed) + keys < kObserved) return;
  if (!mu_.try_lock()) return;
  const MutexLock lock(mu_, std::adopt_lock);
  const uint64_t seen = seen_.exchange(0, std::memory_order_relaxed);
  const uint64_t found = hot_.exchange(0, std::memory_order_relaxed);
  const double share =
      static_cast<double>(found) / static_cast<double>(std::max<uint64_t>(seen, 1));
  if (share >= best_share_ / 2) {
    best_share_ = std::max(best_share_, share);
    return;
  }
  tally_.Clear();
  samples_.clear();
  wanted_ = kFirst;
  every_ = 1;
  best_share_ = 0;
}

std::optional<std::vector<int64_t>> HotSampler::Candidates() {
  const MutexLock lock(mu_);
  if (samples_.size() < wanted_) return std::nullopt;
  tally_.Reserve(samples_.size());
  for (const int64_t key : samples_) tally_.Add(key, 1);
  samples_.clear();
  std::vector<KeyTally::Entry> ranked;
  uint64_t total = 0;
  tally_.ForEach([&](const KeyTally::Entry& entry) {
    total += entry.count;
    if (entry.count >= 2) ranked.push_back(entry);
  });
  const auto more_frequent = [](const KeyTally::Entry& a, const KeyTally::Entry& b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
  };
  if (ranked.size() > places_) {
    const auto end = ranked.begin() + static_cast<std::ptrdiff_t>(places_);
    std::nth_element(ranked.begin(), end, ranked.end(), more_frequent);
    ranked.erase(end, ranked.end());
  }
  std::sort(ranked.begin(), ranked.end(), more_frequent);
  // Twice is chance where keys are even: what counts is the share of keys seen more often.
  uint64_t covered = 0;
  for (const auto& entry : ranked) covered += entry.count > 2 ? entry.count : 0;
  std::vector<int64_t> candidates;
  if (static_cast<double>(covered) >= kLeastShare * static_cast<double>(total)) {
    for (const auto& entry : ranked) candidates.push_back(entry.key);
  }
  tally_.Halve();
  // While the last set's keys stay frequent the next is taken later, from more samples.
  std::vector<int64_t> sorted = candidates;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> common;
  std::set_intersection(sorted.begin(), sorted.end(), last_.begin(), last_.end(),
                        std::back_inserter(common));
  const bool steady = 2 * common.size() >= last_.size();
  if (!steady) {
    wanted_ = kFirst;
    every_ = 1;
  } else if (wanted_ < kMost && !candidates.empty()) {
    wanted_ *= 2;
  } else {
    every_ = std::min(2 * every_.load(), kRarest);
  }
  best_share_ = 0;
  last_ = std::move(sorted);
  return candidates;
}

}  // namespace mxrec
