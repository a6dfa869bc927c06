// absl::flat_hash_map with its own hash.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>

#include "adapters/pointer_map.h"

namespace mxrec::bench {

class AbslFlatHashMap : public PointerMap<absl::flat_hash_map<int64_t, float*>> {
 public:
  static constexpr const char* kName = "absl::flat_hash_map";
  using PointerMap::PointerMap;
};

}  // namespace mxrec::bench
