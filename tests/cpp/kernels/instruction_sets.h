// Runs a test body once per instruction set that this build has kernels for and this machine runs.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "hwy/highway.h"
#include "hwy/targets.h"
#include "mxrec/runtime.h"

namespace mxrec::testing {

// Restores the machine's own choice at the end of its scope.
class ForcedTarget {
 public:
  explicit ForcedTarget(int64_t target) { Force(target); }
  ~ForcedTarget() { Force(0); }
  ForcedTarget(const ForcedTarget&) = delete;
  ForcedTarget& operator=(const ForcedTarget&) = delete;

 private:
  static void Force(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

template <class Body>
void ForEachInstructionSet(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const ForcedTarget forced(target);
    SCOPED_TRACE(hwy::TargetName(target));
    ASSERT_STREQ(kernels::Target(), hwy::TargetName(target));
    body();
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace mxrec::testing
