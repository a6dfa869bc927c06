// std::unordered_map.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "adapters/pointer_map.h"

namespace mxrec::bench {

class StdUnorderedMap : public PointerMap<std::unordered_map<int64_t, float*>> {
 public:
  static constexpr const char* kName = "std::unordered_map";
  using PointerMap::PointerMap;
};

}  // namespace mxrec::bench
