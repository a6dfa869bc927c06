// The seed of a random test: MXREC_TEST_SEED, else one of its own. Every failure prints it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace mxrec::testing {

inline uint64_t TestSeed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MXREC_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : uint64_t{std::random_device{}()};
  }();
  return seed;
}

}  // namespace mxrec::testing

// Prints the line that replays this test with every failure in the scope.
#define MXREC_TRACE_SEED() \
  SCOPED_TRACE("MXREC_TEST_SEED=" + std::to_string(::mxrec::testing::TestSeed()))
