// Logarithm and inverse normal distribution out of + - * / and sqrt alone, which IEEE 754 rounds
// exactly: the same bits on every machine, unlike the C library's functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace mxrec {

// Coefficients from the highest power down.
template <size_t N>
inline double Polynomial(const double (&coefficients)[N], double x) {
  double sum = coefficients[0];
  for (size_t i = 1; i < N; ++i) sum = sum * x + coefficients[i];
  return sum;
}

// Natural logarithm of a normal x > 0, to about 1e-16 of max(1, |log x|).
inline double PortableLog(double x) {
  constexpr double kLn2 = 0.693147180559945309417, kSqrt2 = 1.41421356237309504880;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m > kSqrt2) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(s), and |s| < 0.172 leaves the 12th term below 1e-17.
  const double s = (m - 1.0) / (m + 1.0);
  constexpr double kAtanh[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                               1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
  return exponent * kLn2 + 2.0 * s * Polynomial(kAtanh, s * s);
}

// The inverse of the standard normal distribution function, by M. J. Wichura's rational
// approximations (Algorithm AS 241, PPND16, Applied Statistics 37, 1988); relative error 1e-16.
//
// Its central part, for |p - 1/2| <= kNormalCentral, takes q = p - 1/2.
inline constexpr double kNormalCentral = 0.425;

inline double InverseNormalCentral(double q) {
  constexpr double kNumerator[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4,
                                   6.7265770927008700853e+4, 4.5921953931549871457e+4,
                                   1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                   1.3314166789178437745e+2, 3.3871328727963666080e+0};
  constexpr double kDenominator[] = {5.2264952788528545610e+3, 2.8729085735721942674e+4,
                                     3.9307895800092710610e+4, 2.1213794301586595867e+4,
                                     5.3941960214247511077e+3, 6.8718700749205790830e+2,
                                     4.2313330701600911252e+1, 1.0};
  const double r = kNormalCentral * kNormalCentral - q * q;
  return q * Polynomial(kNumerator, r) / Polynomial(kDenominator, r);
}

// The tails: p outside the central part, q = p - 1/2.
inline double InverseNormalTail(double p, double q) {
  constexpr double kNearNumerator[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2,
                                       2.41780725177450611770e-1, 1.27045825245236838258e+0,
                                       3.64784832476320460504e+0, 5.76949722146069140550e+0,
                                       4.63033784615654529590e+0, 1.42343711074968357734e+0};
  constexpr double kNearDenominator[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                         1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                         6.89767334985100004550e-1, 1.67638483018380384940e+0,
                                         2.05319162663775882187e+0, 1.0};
  constexpr double kFarNumerator[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                                      1.24266094738807843860e-3, 2.65321895265761230930e-2,
                                      2.96560571828504891230e-1, 1.78482653991729133580e+0,
                                      5.46378491116411436990e+0, 6.65790464350110377720e+0};
  constexpr double kFarDenominator[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                        1.84631831751005468180e-5,  7.86869131145613259100e-4,
                                        1.48753612908506148525e-2,  1.36929880922735805310e-1,
                                        5.99832206555887937690e-1,  1.0};
  const double r = std::sqrt(-PortableLog(q < 0.0 ? p : 1.0 - p));
  const double magnitude =
      r <= 5.0 ? Polynomial(kNearNumerator, r - 1.6) / Polynomial(kNearDenominator, r - 1.6)
               : Polynomial(kFarNumerator, r - 5.0) / Polynomial(kFarDenominator, r - 5.0);
  return q < 0.0 ? -magnitude : magnitude;
}

inline bool IsNormalCentral(double q) { return q >= -kNormalCentral && q <= kNormalCentral; }

// p in (0, 1).
inline double InverseNormal(double p) {
  const double q = p - 0.5;
  return IsNormalCentral(q) ? InverseNormalCentral(q) : InverseNormalTail(p, q);
}

}  // namespace mxrec
