// boost::unordered_flat_map with its own hash.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>

#include "adapters/pointer_map.h"

namespace mxrec::bench {

class BoostUnorderedFlatMap : public PointerMap<boost::unordered_flat_map<int64_t, float*>> {
 public:
  static constexpr const char* kName = "boost::unordered_flat_map";
  using PointerMap::PointerMap;
};

}  // namespace mxrec::bench
