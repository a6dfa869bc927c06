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
  std::unique_lock lock(mu_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  const size_t n = std::clamp(keys.size() / kKeysPerSample, size_t{1}, kMostSamples);
  for (size_t i = 0; i < n; ++i) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    ++counts_[keys[static_cast<size_t>((random_ >> 33) % keys.size())]];
  }
  sampled_ += n;
  return sampled_ >= wanted_;
}

void HotSampler::Observe(size_t keys, size_t hot) {
  hot_.fetch_add(hot, std::memory_order_relaxed);
  if (seen_.fetch_add(keys, std::memory_order_relaxed) + keys < kObserved) return;
  std::unique_lock lock(mu_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  const uint64_t seen = seen_.exchange(0, std::memory_order_relaxed);
  const uint64_t found = hot_.exchange(0, std::memory_order_relaxed);
  const double share =
      static_cast<double>(found) / static_cast<double>(std::max<uint64_t>(seen, 1));
  if (share >= best_share_ / 2) {
    best_share_ = std::max(best_share_, share);
    return;
  }
  counts_.clear();
  sampled_ = 0;
  wanted_ = kFirst;
  every_ = 1;
  best_share_ = 0;
}

std::optional<std::vector<int64_t>> HotSampler::Candidates() {
  std::lock_guard lock(mu_);
  if (sampled_ < wanted_) return std::nullopt;
  std::vector<std::pair<uint32_t, int64_t>> ranked;
  ranked.reserve(counts_.size());
  uint64_t total = 0;
  for (const auto& [key, count] : counts_) {
    total += count;
    if (count >= 2) ranked.emplace_back(count, key);
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (ranked.size() > places_) ranked.resize(places_);
  // Twice is chance where keys are even: what counts is the share of keys seen more often.
  uint64_t covered = 0;
  for (const auto& [count, key] : ranked) covered += count > 2 ? count : 0;
  std::vector<int64_t> candidates;
  if (static_cast<double>(covered) >= kLeastShare * static_cast<double>(total)) {
    for (const auto& [count, key] : ranked) candidates.push_back(key);
  }
  for (auto it = counts_.begin(); it != counts_.end();) {
    it->second /= 2;
    it = it->second == 0 ? counts_.erase(it) : std::next(it);
  }
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
  sampled_ = 0;
  last_ = std::move(sorted);
  return candidates;
}

}  // namespace mxrec
