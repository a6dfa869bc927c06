// What an inserting call wants of TableState, and what it notes of keys that are not admitted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "mxrec/table_types.h"

namespace mxrec {

// Where the distinct keys of a batch go. inverse: [n], or null.
struct UniqueRequest {
  int32_t* inverse;
  UniqueOutput output;
};

// When the keys of a batch were used, seconds.
struct UseTimes {
  uint32_t all = 0;               // every key, unless
  const int64_t* each = nullptr;  // each part of `per` keys has a time of its own, in [0, 2^32)
  size_t per = 1;
  uint32_t latest = 0;  // of them
};

// What an inserting call wants done with the rows it resolves.
struct InsertRequest {
  bool count_use = false;  // frequency and time of the last use; missing keys must be admitted
  UseTimes times = {};
  uint64_t coefficient = 1;           // of an occurrence
  const float* absent_row = nullptr;  // [dim], read by keys that are not admitted; null: zeros
  bool makes_rows = true;             // as in TrainingUse
  bool draws_rows = true;             // false: the caller writes the embeddings of new rows
  // [n, dim]; embeddings by batch position or, with `positions` [n], by positions[that].
  float* gather = nullptr;
  const uint32_t* positions = nullptr;
  size_t place_of(uint32_t position) const {
    return positions == nullptr ? position : positions[position];
  }
  // The batch is deduplicated: it has so many distinct keys. None: it is not.
  std::optional<size_t> distinct = std::nullopt;
  const UniqueRequest* unique = nullptr;  // of a deduplicated batch
  bool prepared = false;                  // ref and generation say where rows have been
};

// What a batch knows of its rows before they are looked for.
enum class KnownRows : uint8_t {
  kNothing,
  kRefs,    // all of them
  kPlaces,  // where they have been: a row is there if the generation is still that one
};

// What a batch noted of a key that was not admitted (KeyBatch::refused).
inline constexpr uint8_t kNotRefused = 0;
inline constexpr uint8_t kRefused = 1;
inline constexpr uint8_t kRefusedAnew = 2;  // it had no count before

// What becomes of rows that Assign finds.
enum class Existing : uint8_t { kOverwrite, kKeep };

}  // namespace mxrec
