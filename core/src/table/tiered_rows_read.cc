// TieredRows: rows on SSD that are read where they are.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "table/tiered_rows.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kWindow = 32;   // keys in flight: covers the latency of memory
constexpr size_t kPiece = 4096;  // rows read at a time

template <class Call>
class Finally {
 public:
  explicit Finally(Call call) : call_(std::move(call)) {}
  ~Finally() { call_(); }
  Finally(const Finally&) = delete;
  Finally& operator=(const Finally&) = delete;

 private:
  const Call call_;
};

}  // namespace

Status TieredRows::ReadPieces(
    const ssd::SsdLog::Guard& guard, std::span<const Wanted> wanted,
    const std::function<void(size_t, std::span<const ssd::RecordOut>)>& use) const {
  if (wanted.empty()) return {};
  const size_t row_floats = stored_bytes() / sizeof(float);
  const size_t most = std::min(kPiece, wanted.size());
  const std::unique_ptr<float[]> rows(new float[most * row_floats]);
  std::vector<ssd::RecordOut> reads;
  reads.reserve(most);
  Status first;
  for (size_t begin = 0; begin < wanted.size(); begin += most) {
    const size_t n = std::min(most, wanted.size() - begin);
    reads.clear();
    for (size_t i = 0; i < n; ++i) {
      reads.push_back({.key = wanted[begin + i].key,
                       .location = wanted[begin + i].location,
                       .row = rows.get() + i * row_floats});
    }
    const Status status = tier_->Read(guard, reads);
    if (first.ok()) first = status;
    use(begin, reads);
  }
  return first;
}

Status TieredRows::ReadSpilled(const ssd::SsdLog::Guard& guard, std::span<const Wanted> wanted,
                               const std::function<void(size_t, const float*)>& use) const {
  return ReadPieces(guard, wanted, [&](size_t begin, std::span<const ssd::RecordOut> reads) {
    for (size_t i = 0; i < reads.size(); ++i) {
      if (reads[i].ok) use(begin + i, static_cast<const float*>(reads[i].row));
    }
  });
}

Status TieredRows::ReadMissed(KeySpan keys, uint64_t moves, size_t found, float* out,
                              size_t* there) const {
  *there = found;
  if (tier_->rows() == 0 && tier_->moves.load(std::memory_order_acquire) == moves) return {};
  const auto dim = static_cast<size_t>(dim_);
  std::vector<Wanted> wanted;
  std::vector<size_t> positions;
  const ssd::SsdLog::Guard guard = tier_->log().Enter();
  {
    const Locks locks = LockAllShared();
    const bool moved = tier_->moves.load(std::memory_order_acquire) != moves;
    if (moved) *there = 0;  // which rows were found is not known any more
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i + kWindow < keys.size()) {
        const uint64_t ahead = HashKey(keys[i + kWindow]);
        const uint32_t s = ShardOf(ahead, shard_bits_);
        ShardAt(s).mu.AssumeHeldShared();  // `locks`
        Prefetch(SpilledOf(s).HomeBucket(ahead));
      }
      const uint64_t hash = HashKey(keys[i]);
      const uint32_t s = ShardOf(hash, shard_bits_);
      ShardAt(s).mu.AssumeHeldShared();
      if (const SpilledRow* row = FindSpilled(s, hash, keys[i]); row != nullptr) {
        wanted.push_back({keys[i], row->location});
        positions.push_back(i);
      } else if (moved) {
        const RowRef ref = ShardAt(s).index.Find(hash, keys[i]);
        if (ref == kNoRow) continue;
        format_.Load(ShardAt(s).arena->Row(ref), out + i * dim);
        ++*there;
      }
    }
  }
  MXREC_RETURN_IF_ERROR(ReadSpilled(guard, wanted, [&](size_t i, const float* row) {
    format_.Load(row, out + positions[i] * dim);
  }));
  *there += wanted.size();
  tier_->read_in_place += static_cast<int64_t>(wanted.size());
  return {};
}

void TieredRows::Stage(KeySpan keys) const {
  if (tier_ == nullptr || tier_->rows() == 0) return;
  std::vector<Wanted> wanted;
  const ssd::SsdLog::Guard guard = tier_->log().Enter();
  {
    const Locks locks = LockAllShared();
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i + kWindow < keys.size()) {
        const uint64_t ahead = HashKey(keys[i + kWindow]);
        const uint32_t s = ShardOf(ahead, shard_bits_);
        ShardAt(s).mu.AssumeHeldShared();  // `locks`
        Prefetch(SpilledOf(s).HomeBucket(ahead));
      }
      const uint64_t hash = HashKey(keys[i]);
      const uint32_t s = ShardOf(hash, shard_bits_);
      ShardAt(s).mu.AssumeHeldShared();
      const SpilledRow* row = FindSpilled(s, hash, keys[i]);
      if (row != nullptr) wanted.push_back({keys[i], row->location});
    }
  }
  // Those of a shard lie together.
  std::ranges::sort(wanted, {}, [](const Wanted& each) { return HashKey(each.key); });
  const auto again = std::ranges::unique(wanted, {}, &Wanted::key);
  wanted.erase(again.begin(), again.end());
  StagedRows& staged = tier_->staged();
  if (wanted.size() > staged.most_rows()) wanted.resize(staged.most_rows());
  std::vector<int64_t> begun(wanted.size());
  std::ranges::transform(wanted, begun.begin(), &Wanted::key);
  std::vector<uint8_t> mine(wanted.size());
  const Finally finish([&] { staged.Finish(begun, mine); });
  staged.Begin(begun, mine);
  size_t reads = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (mine[i] != 0) wanted[reads++] = wanted[i];
  }
  wanted.resize(reads);
  // The batch reads again what could not be read, and reports it.
  (void)ReadPieces(guard, wanted, [&](size_t begin, std::span<const ssd::RecordOut> read) {
    PutStaged(std::span(wanted).subspan(begin, read.size()), read);
  });
}

// wanted: in the order of their hashes, hence of their shards.
void TieredRows::PutStaged(std::span<const Wanted> wanted,
                           std::span<const ssd::RecordOut> reads) const {
  std::vector<StagedRows::In> in;
  for (size_t i = 0; i < wanted.size();) {
    const uint32_t s = ShardOf(HashKey(wanted[i].key), shard_bits_);
    in.clear();
    const SharedLock lock(ShardAt(s).mu);
    for (; i < wanted.size(); ++i) {
      const auto& [key, location] = wanted[i];
      const uint64_t hash = HashKey(key);
      if (ShardOf(hash, shard_bits_) != s) break;
      const SpilledRow* now = FindSpilled(s, hash, key);
      if (!reads[i].ok || now == nullptr || now->location != location) continue;
      in.push_back({key, reads[i].row});
    }
    tier_->staged().Put(in);
  }
}

}  // namespace mxrec
