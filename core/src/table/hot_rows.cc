#include "table/hot_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "index/key_hash.h"
#include "util/cache_size.h"

namespace mxrec {
namespace {

// Half of a core's second-level cache: the rest is for the batch and the index.
size_t BlockBudget() {
  const size_t bytes = CacheBytes(2);
  return bytes > 0 ? bytes / 2 : size_t{256} << 10;
}

// Rows of which the budget holds fewer are copied rather than looked up: no row is hot.
constexpr size_t kFewestPlaces = 16, kMostPlaces = 16384;
// Places for each hot row: of those, the share that meets a taken place is small.
constexpr size_t kPlacesPerRow = 4;
// Smaller blocks need few pages of any size.
constexpr size_t kHugeFrom = kHugePage / 4;
constexpr RowRef kNoOwner = kNoRow;

}  // namespace

HotRows::HotRows(size_t row_bytes, bool enabled) : row_bytes_(row_bytes) {
  if (!enabled) return;
  view_.stride = (row_bytes + 15) / 16 * 16;
  const size_t places = std::min(BlockBudget() / view_.stride, kMostPlaces);
  most_places_ = places < kFewestPlaces ? 0 : std::bit_floor(places);
}

HotRows::~HotRows() { FreeBlock(); }

void HotRows::FreeBlock() {
  if (block_ != nullptr) pages_.Free(block_, block_bytes_);
  block_ = nullptr;
  places_ = 0;
}

// False: out of memory.
bool HotRows::Resize(size_t places) {
  if (places == places_) return true;
  FreeBlock();
  block_bytes_ = places * (view_.stride + sizeof(int64_t));
  block_ = pages_.Allocate(block_bytes_, block_bytes_ >= kHugeFrom);
  if (block_ == nullptr) return false;
  places_ = places;
  view_.mask = places - 1;
  return true;
}

int64_t HotRows::bytes() const {
  return static_cast<int64_t>(
      static_cast<size_t>(pages_.held_bytes()) + owners_.capacity() * sizeof(Owner) +
      filter_.capacity() * sizeof(uint64_t) + by_row_.capacity() * sizeof(uint32_t));
}

// Some key whose place is another: what an empty place holds, so that no key is found there.
int64_t HotRows::KeyOfNoRowAt(size_t place) const {
  int64_t key = 0;
  while (view_.PlaceOf(HashKey(key)) == place) ++key;
  return key;
}

void HotRows::Clear() {
  view_.keys = nullptr;
  size_ = 0;
}

void HotRows::Rebuild(std::span<const Row> rows) {
  Clear();
  if (!enabled()) return;
  if (rows.empty()) return FreeBlock();
  if (!Resize(std::min(most_places_, std::bit_ceil(kPlacesPerRow * rows.size())))) return;
  try {
    owners_.resize(places_);
    filter_.assign(kFilterBits / 64, 0);
    by_row_.assign(4 * places_, 0);
  } catch (const std::bad_alloc&) {
    return;
  }
  const size_t rows_bytes = places_ * view_.stride;
  char* copies = static_cast<char*>(block_);
  auto* keys = reinterpret_cast<int64_t*>(copies + rows_bytes);
  std::fill(owners_.begin(), owners_.end(), Owner{0, kNoOwner});
  for (size_t place = 0; place < places_; ++place) keys[place] = KeyOfNoRowAt(place);
  for (const Row& row : rows) {
    const size_t place = view_.PlaceOf(HashKey(row.key));
    if (owners_[place].ref != kNoOwner) continue;
    owners_[place] = {row.shard, row.ref};
    keys[place] = row.key;
    std::memcpy(copies + place * view_.stride, row.row, row_bytes_);
    const uint32_t bit = FilterBit(row.shard, row.ref);
    filter_[bit / 64] |= uint64_t{1} << (bit % 64);
    size_t at = FilterBit(row.shard, row.ref) & (by_row_.size() - 1);
    while (by_row_[at] != 0) at = (at + 1) & (by_row_.size() - 1);
    by_row_[at] = static_cast<uint32_t>(place + 1);
    ++size_;
  }
  view_.rows = copies;
  view_.keys = keys;
}

size_t HotRows::PlaceOfRow(uint32_t shard, RowRef ref) const {
  for (size_t at = FilterBit(shard, ref) & (by_row_.size() - 1); by_row_[at] != 0;
       at = (at + 1) & (by_row_.size() - 1)) {
    const Owner& owner = owners_[by_row_[at] - 1];
    // The shard first: the reference of another shard's row may be changing.
    if (owner.shard == shard && owner.ref == ref) return by_row_[at] - 1;
  }
  return places_;
}

void HotRows::Store(uint32_t shard, RowRef ref, const float* row) {
  const size_t place = PlaceOfRow(shard, ref);
  if (place == places_) return;
  std::memcpy(static_cast<char*>(block_) + place * view_.stride, row, row_bytes_);
}

void HotRows::Forget(uint32_t shard, RowRef ref) {
  const size_t place = PlaceOfRow(shard, ref);
  if (place == places_) return;
  owners_[place].ref = kNoOwner;
  size_.fetch_sub(1, std::memory_order_relaxed);
  const_cast<int64_t*>(view_.keys)[place] = KeyOfNoRowAt(place);
}

}  // namespace mxrec
