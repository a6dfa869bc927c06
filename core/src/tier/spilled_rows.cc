#include "tier/spilled_rows.h"

#include <new>

namespace mxrec {

bool SpilledRows::Insert(uint64_t hash, int64_t key, const SpilledRow& row) {
  const bool reused = first_free_ != kNoPlace;
  if (!reused && used_ == chunks_.size() * kChunk) {
    try {
      chunks_.push_back(std::make_unique<SpilledRow[]>(kChunk));
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  const uint32_t at = reused ? first_free_ : used_;
  if (!index_.Insert(hash, key, at)) return false;
  if (reused) {
    first_free_ = At(at).location;
  } else {
    ++used_;
  }
  At(at) = row;
  return true;
}

void SpilledRows::Erase(uint64_t hash, int64_t key) {
  const RowRef at = index_.Erase(hash, key);
  At(at).location = first_free_;
  first_free_ = at;
}

}  // namespace mxrec
