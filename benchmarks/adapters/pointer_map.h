// An adapter of any map with the interface of std::unordered_map, from keys to rows in an arena.
// Lookups use all threads; what changes the map or its rows uses one, because such maps allow no
// more.
#pragma once

#include <cstdint>

#include "adapters/adapter.h"
#include "adapters/arena.h"

namespace mxrec::bench {

template <typename Map>
class PointerMap {
 public:
  static bool Supports(int /*dim*/) { return true; }

  explicit PointerMap(const AdapterOptions& options)
      : dim_(static_cast<size_t>(options.dim)), arena_(2 * dim_) {}

  void Insert(Keys keys, const float* values) {
    for (size_t i = 0; i < keys.size(); ++i) CopyRow(values + i * dim_, dim_, RowOf(keys[i]));
  }
  void Find(Keys keys, float* out) const {
    InParallel(keys.size(), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        CopyRow(map_.find(keys[i])->second, dim_, out + i * dim_);
      }
    });
  }
  void FindOrInit(Keys keys, float* out) {
    for (size_t i = 0; i < keys.size(); ++i) CopyRow(RowOf(keys[i]), dim_, out + i * dim_);
  }
  void Update(Keys keys, const float* grads) {
    for (size_t i = 0; i < keys.size(); ++i) {
      AdagradRow(grads + i * dim_, dim_, map_.find(keys[i])->second);
    }
  }
  int64_t Erase(Keys keys) {
    int64_t erased = 0;
    for (const int64_t key : keys) {
      const auto entry = map_.find(key);
      if (entry == map_.end()) continue;
      arena_.Free(entry->second);
      map_.erase(entry);
      ++erased;
    }
    return erased;
  }
  int64_t size() const { return static_cast<int64_t>(map_.size()); }

 private:
  float* RowOf(int64_t key) {
    const auto [entry, inserted] = map_.try_emplace(key, nullptr);
    if (inserted) {
      entry->second = arena_.New();
      InitRow(entry->second, dim_);
    }
    return entry->second;
  }

  size_t dim_;
  Map map_;
  Arena arena_;
};

}  // namespace mxrec::bench
