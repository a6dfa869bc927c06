#include "admission/key_counters.h"

#include <new>

#include "admission/exact_counters.h"
#include "admission/sketch_counters.h"

namespace mxrec {

std::unique_ptr<KeyCounters> KeyCounters::Make(const AdmissionOptions& options,
                                               PageAllocator* pages, int shard_bits,
                                               uint32_t shard) {
  try {
    if (options.mode == AdmissionMode::kExact) {
      return std::make_unique<ExactCounters>(pages, shard_bits);
    }
    return std::make_unique<SketchCounters>(pages, options.expected_keys, shard_bits, shard);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace mxrec
