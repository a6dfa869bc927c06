// TieredRows: rows that leave memory for SSD.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <new>
#include <numeric>
#include <tuple>

#include "table/tiered_rows.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kAhead = 16;
constexpr size_t kPiece = 2048;       // rows appended under one guard
constexpr size_t kFewRows = 1024;     // of SpillSome
constexpr int64_t kFewLooks = 16384;  // of SpillSome
constexpr uint32_t kAnyScore = std::numeric_limits<uint32_t>::max();

// Scores by their bits, to find a threshold that lets enough rows go.
class Scores {
 public:
  void Add(uint32_t score) { ++rows_[static_cast<size_t>(std::bit_width(score))]; }
  uint32_t ThresholdFor(size_t rows) const {
    size_t sum = 0;
    for (size_t bits = 0; bits < 32; ++bits) {
      sum += rows_[bits];
      if (sum >= rows) return static_cast<uint32_t>((uint64_t{1} << bits) - 1);
    }
    return kAnyScore;
  }

 private:
  std::array<size_t, 33> rows_{};
};

}  // namespace

std::vector<TieredRows::Victim> TieredRows::ChooseCold(size_t want, const KeptRows* kept,
                                                       int64_t looks) {
  std::vector<Victim> victims;
  struct Seen {
    int64_t key;
    RowRef ref;
  };
  std::vector<Seen> seen;
  const auto by_place = [](const Victim& v) { return std::pair(v.shard, v.ref); };
  size_t sorted = 0;           // of the victims, those of earlier laps, by place
  const auto sort_out = [&] {  // those found twice
    std::ranges::sort(victims, {}, by_place);
    const auto again = std::ranges::unique(victims, {}, by_place);
    victims.erase(again.begin(), again.end());
  };
  const uint32_t half_life = frozen_ ? ClockHand::kFrozenHalfLife : ClockHand::kHalfLife;
  uint32_t limit = tier_->threshold;
  int64_t looked = 0, laps_of_any = 0;
  size_t turns = 0;
  int64_t lap = 0;
  Scores scores;
  // Few rows are looked through as a whole, for the coldest of them: the hand goes round faster
  // than batches come, and rows that are in use have not had the time to show it.
  const int64_t whole = memory_rows() <= kFewLooks ? memory_rows() : 0;
  while (looked < looks && (victims.size() < want || looked < whole)) {
    const uint32_t s = tier_->next_shard;
    tier_->next_shard = (s + 1) % shards();
    const Shard& shard = ShardAt(s);
    ClockHand& hand = tier_->shard(s).hand;
    const auto slots = [&] {
      shard.mu.AssumeHeldShared();  // it need not be: only changes move it, and this is one
      return shard.arena->slots();
    };
    if (!hand.Knows(slots())) {
      const ExclusiveLock lock(shard.mu);  // statistics look at it
      hand.Reserve(slots());
    }
    {
      const SharedLock lock(shard.mu);  // changes are kept out by the caller
      seen.clear();
      hand.position = shard.index.VisitSegment(hand.position, [&](int64_t key, RowRef ref) {
        seen.push_back({key, ref});
      });
      if (hand.position >= KeyIndex::kEndOfPositions) hand.position = 0;
      for (size_t i = 0; i < seen.size(); ++i) {
        if (i + kAhead < seen.size()) Prefetch(&shard.arena->Meta(seen[i + kAhead].ref));
        const auto [key, ref] = seen[i];
        if (kept != nullptr && ref < (*kept)[s].size() && (*kept)[s][ref] != 0) continue;
        if (limit != kAnyScore && hand.Wanted(ref, batches_)) continue;
        const RowMeta& meta = shard.arena->Meta(ref);
        const auto earlier = std::span(victims).first(sorted);
        if (std::ranges::binary_search(earlier, std::pair(s, ref), {}, by_place)) continue;
        uint32_t score;
        if (!hand.Visit(ref, meta.frequency, meta.last_time, half_life, &score)) continue;
        if (score <= limit) {
          victims.push_back({key, ref, s, meta.last_time, score});
        } else {
          scores.Add(score);
        }
      }
    }
    looked += static_cast<int64_t>(seen.size());
    lap += static_cast<int64_t>(seen.size());
    if (++turns < shards() || lap < memory_rows()) continue;
    // Once round, more or less: shards have more or fewer segments than others.
    sort_out();
    sorted = victims.size();
    if (limit == kAnyScore && ++laps_of_any == 2) break;  // all others stay
    if (victims.size() < want) limit = std::max(limit, scores.ThresholdFor(want - victims.size()));
    turns = 0;
    lap = 0;
    scores = {};
  }
  sort_out();
  // About one row in eight should be cold: so the hand finds some soon, and they are the coldest.
  const auto found = static_cast<int64_t>(victims.size());
  uint32_t& threshold = tier_->threshold;
  if (found * 4 > looked) threshold -= (threshold + 3) / 4;
  if (found * 16 < looked) threshold += threshold / 8 + 1;
  if (victims.size() > want) {
    const auto coldest = victims.begin() + static_cast<ptrdiff_t>(want);
    std::ranges::nth_element(victims, coldest, {},
                             [](const Victim& v) { return std::tie(v.score, v.last_time, v.key); });
    victims.resize(want);
  }
  return victims;
}

bool TieredRows::IsBelow(float norm, const float* row) const {
  std::vector<float> embedding(static_cast<size_t>(dim_));
  format_.Load(row, embedding.data());
  const double squares =
      std::inner_product(embedding.begin(), embedding.end(), embedding.begin(), 0.0, std::plus<>(),
                         [](float a, float b) { return double{a} * double{b}; });
  return std::sqrt(squares) < double{norm};
}

Status TieredRows::Spill(size_t want, const KeptRows* kept, int64_t looks, int64_t* spilled) {
  *spilled = 0;
  const int64_t room = tier_->capacity() - tier_->rows();
  want = std::min(want, static_cast<size_t>(std::max<int64_t>(room, 0)));
  if (want == 0) return {};
  std::vector<Victim> victims = ChooseCold(want, kept, looks);
  // Rows that were used together are read together when they are used again.
  std::ranges::sort(victims, {},
                    [](const Victim& v) { return std::tie(v.last_time, v.shard, v.ref); });
  std::vector<ssd::RecordIn> records;
  std::vector<uint32_t> locations;
  for (size_t begin = 0; begin < victims.size(); begin += kPiece) {
    const std::span<const Victim> piece(victims.data() + begin,
                                        std::min(kPiece, victims.size() - begin));
    MXREC_RETURN_IF_ERROR(tier_->log().Pace(piece.size()));
    records.clear();
    for (const Victim& v : piece) {
      const Shard& shard = ShardAt(v.shard);
      shard.mu.AssumeHeldShared();  // it need not be: only changes write rows, and this is one
      const RowArena& arena = *shard.arena;
      records.push_back({.key = v.key,
                         .frequency = arena.Meta(v.ref).frequency,
                         .last_time = v.last_time,
                         .row = arena.Row(v.ref)});
    }
    locations.resize(piece.size());
    const ssd::SsdLog::Guard guard = tier_->log().Enter();
    MXREC_RETURN_IF_ERROR(tier_->log().Append(guard, records, locations.data()));
    std::atomic<int64_t> here{0};
    const bool ok =
        ForEachShard(piece.size(), [&](uint32_t s) { here += SpillInShard(s, piece, locations); });
    tier_->spilled += here;
    *spilled += here;
    if (ok && here == static_cast<int64_t>(piece.size())) continue;
    return ResourceExhausted("out of memory for what is remembered of rows on SSD; table '" +
                             name_ + "' has " + std::to_string(tier_->rows()) +
                             " of them. Give the process more memory");
  }
  return {};
}

// Returns the rows that have left. The records of the others are freed.
int64_t TieredRows::SpillInShard(uint32_t s, std::span<const Victim> victims,
                                 std::span<const uint32_t> locations) {
  Shard& shard = ShardAt(s);
  TierShard& tier = tier_->shard(s);
  int64_t here = 0;
  bool no_memory = false;
  const AddressTrail::Time now = {batches_, steps_};
  const bool given = given_at_.has_value() && batches_ - *given_at_ <= AddressTrail::kMostBatches;
  const ExclusiveLock lock(shard.mu);
  SameLock(shard.mu, *tier.mu);
  tier.trail.ForgetOld(now);
  for (size_t i = 0; i < victims.size(); ++i) {
    if (i + kAhead < victims.size() && victims[i + kAhead].shard == s) {
      const uint64_t ahead = HashKey(victims[i + kAhead].key);
      Prefetch(shard.index.HomeBucket(ahead));
      Prefetch(tier.spilled.HomeBucket(ahead));
    }
    const auto& [key, ref, of, last_time, score] = victims[i];
    if (of != s) continue;
    if (no_memory) {
      tier_->log().Free({&locations[i], 1});
      continue;
    }
    const uint64_t hash = HashKey(key);
    RowMeta& meta = shard.arena->Meta(ref);
    const bool reprieved = !shard.reprieved.empty() && shard.reprieved.contains(ref);
    const float norm = tier_->marked_norm;
    bool large = false;
    try {
      large = norm > 0.0f && !IsBelow(norm, shard.arena->Row(ref));
      if (given) tier.trail.Add(ref, meta.generation, key, now);
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
    const SpilledRow row{.location = locations[i],
                         .large = large,
                         .frequency = meta.frequency,
                         .last_time = meta.last_time,
                         .stamp = meta.stamp,
                         .reprieve = reprieved ? sweep_.number : uint16_t{0}};
    if (no_memory || !tier.spilled.Insert(hash, key, row)) {
      no_memory = true;
      tier_->log().Free({&locations[i], 1});
      continue;
    }
    if (tracker_.active()) {
      tracker_.Spill(s, key, ref, &meta, shard.arena->Row(ref));
      tier.spilled.Find(hash, key)->stamp = meta.stamp;
    }
    shard.index.Erase(hash, key);
    hot_.Drop(s, ref);
    if (reprieved) shard.reprieved.erase(ref);
    tier.hand.Forget(ref);
    shard.arena->Free(ref, key);
    ++here;
  }
  tier_->moves.fetch_add(static_cast<uint64_t>(here), std::memory_order_release);
  tier_->AddRows(here);
  return here;
}

bool TieredRows::WantsSpill() const {
  if (tier_ == nullptr) return false;
  const int64_t most = tier_->memory_rows() - tier_->reserve() / 2;
  return memory_rows() > most && tier_->rows() < tier_->capacity();
}

bool TieredRows::WantsMoreRoom() const {
  if (tier_ == nullptr || tier_->rows() >= tier_->capacity()) return false;
  return memory_rows() > tier_->memory_rows() - tier_->reserve();
}

Result<bool> TieredRows::SpillSome() {
  const int64_t excess = memory_rows() - (tier_->memory_rows() - tier_->reserve());
  if (excess <= 0) return false;
  int64_t spilled = 0;
  MXREC_RETURN_IF_ERROR(
      Spill(std::min<size_t>(kFewRows, static_cast<size_t>(excess)), nullptr, kFewLooks, &spilled));
  return true;
}

}  // namespace mxrec
