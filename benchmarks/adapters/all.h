// The adapters, named once.
#pragma once

#include <type_traits>

#include "adapters/absl_flat_hash_map.h"
#include "adapters/boost_unordered_flat_map.h"
#include "adapters/hash_gather.h"
#include "adapters/libcuckoo_map.h"
#include "adapters/mxrec_table.h"
#include "adapters/std_unordered_map.h"

namespace mxrec::bench {

template <typename... Adapters>
struct AdapterList {};

using AllAdapters = AdapterList<MxrecTable, MxrecWithoutHotKeys, AbslFlatHashMap,
                                BoostUnorderedFlatMap, LibcuckooMap, StdUnorderedMap, HashGather>;

// Calls call(std::type_identity<Adapter>()) for each.
template <typename... Adapters, typename Call>
void ForEachAdapter(AdapterList<Adapters...>, const Call& call) {
  (call(std::type_identity<Adapters>()), ...);
}

}  // namespace mxrec::bench
