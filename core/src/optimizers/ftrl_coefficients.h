// FtrlCoefficients: what one FTRL step is computed with.
#pragma once

namespace mxrec {

struct FtrlCoefficients {
  float lr;
  float power;  // -learning_rate_power
  float l1, l2, l2_shrinkage;
};

}  // namespace mxrec
