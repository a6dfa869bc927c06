#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/half.cc"
#include <cstring>

#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "kernels/half_bits.h"
#include "kernels/row_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mxrec::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Magnitudes of floats are below 2^31, so signed integers hold and compare them.
using DI = hn::ScalableTag<int32_t>;
using DU = hn::RebindToUnsigned<DI>;
using DF = hn::RebindToFloat<DI>;
using VI = hn::Vec<DI>;
using VU = hn::Vec<DU>;
using VF = hn::Vec<DF>;

HWY_INLINE VI SetBits(uint32_t bits) { return hn::Set(DI(), static_cast<int32_t>(bits)); }

// Sum of the discarded bits' half and the last kept bit minus one: what rounds to nearest even.
template <int kDiscarded>
HWY_INLINE VI RoundNearest(VI finite) {
  const VI odd = hn::And(hn::ShiftRight<kDiscarded>(finite), SetBits(1));
  const VI rounded = hn::Add(hn::Add(finite, SetBits((1u << (kDiscarded - 1)) - 1)), odd);
  return hn::ShiftRight<kDiscarded>(rounded);
}

template <int kDiscarded>
HWY_INLINE VI RoundStochastic(VI finite, VU random) {
  const VI below = hn::BitCast(DI(), hn::ShiftRight<32 - kDiscarded>(random));
  return hn::ShiftRight<kDiscarded>(hn::Add(finite, below));
}

struct Float16Lanes {
  using Scalar = Float16;

  // magnitude: of the half.
  static HWY_INLINE VI Promote(VI magnitude) {
    const DF df;
    const VI normal = hn::Add(hn::ShiftLeft<13>(magnitude), SetBits(Float16::kBias));
    const VI denormal =
        hn::BitCast(DI(), hn::Mul(hn::ConvertTo(df, magnitude), hn::Set(df, 0x1p-24f)));
    const VI special =
        hn::Or(hn::Add(normal, SetBits(Float16::kBias)),
               hn::IfThenElseZero(hn::Gt(magnitude, SetBits(0x7c00)), SetBits(0x400000)));
    const VI finite = hn::IfThenElse(hn::Lt(magnitude, SetBits(0x400)), denormal, normal);
    return hn::IfThenElse(hn::Gt(magnitude, SetBits(0x7bff)), special, finite);
  }
  static HWY_INLINE VI Nearest(VI finite) {
    const DF df;
    const VI normal = RoundNearest<13>(hn::Sub(finite, SetBits(Float16::kBias)));
    const VF shifted = hn::Add(hn::BitCast(df, finite), hn::Set(df, 0.5f));
    const VI denormal = hn::Sub(hn::BitCast(DI(), shifted), SetBits(0x3f000000));
    return hn::IfThenElse(hn::Lt(finite, SetBits(Float16::kSmallestNormal)), denormal, normal);
  }
  static HWY_INLINE VI Stochastic(VI finite, VU random) {
    const DF df;
    const VI normal = RoundStochastic<13>(hn::Sub(finite, SetBits(Float16::kBias)), random);
    const auto small = hn::Lt(finite, SetBits(Float16::kSmallestNormal));
    // Larger values would leave the range of the conversion.
    const VF scaled =
        hn::Mul(hn::BitCast(df, hn::IfThenElseZero(small, finite)), hn::Set(df, 0x1p24f));
    const VI whole = hn::ConvertTo(DI(), scaled);
    const VF part = hn::Sub(scaled, hn::ConvertTo(df, whole));
    const VF drawn = hn::ConvertTo(df, hn::BitCast(DI(), hn::ShiftRight<9>(random)));
    const VF chance = hn::Mul(hn::Add(drawn, hn::Set(df, 0.5f)), hn::Set(df, 0x1p-23f));
    const VI up = hn::And(hn::BitCast(DI(), hn::VecFromMask(df, hn::Lt(chance, part))), SetBits(1));
    return hn::IfThenElse(small, hn::Add(whole, up), normal);
  }
};

struct Bfloat16Lanes {
  using Scalar = Bfloat16;

  static HWY_INLINE VI Promote(VI magnitude) { return hn::ShiftLeft<16>(magnitude); }
  static HWY_INLINE VI Nearest(VI finite) { return RoundNearest<16>(finite); }
  static HWY_INLINE VI Stochastic(VI finite, VU random) {
    return RoundStochastic<16>(finite, random);
  }
};

template <class Lanes>
HWY_INLINE void PromoteLanes(const uint16_t* from, size_t n, float* to) {
  const DI di;
  const hn::Rebind<uint16_t, DI> d16;
  const size_t lanes = hn::Lanes(di);
  size_t c = 0;
  for (; c + lanes <= n; c += lanes) {
    const VI half = hn::PromoteTo(di, hn::LoadU(d16, from + c));
    const VI sign = hn::ShiftLeft<16>(hn::And(half, SetBits(0x8000)));
    const VI bits = Lanes::Promote(hn::And(half, SetBits(0x7fff)));
    hn::StoreU(hn::BitCast(DF(), hn::Or(bits, sign)), DF(), to + c);
  }
  for (; c < n; ++c) to[c] = Lanes::Scalar::ToFloat(from[c]);
}

template <class Lanes>
HWY_INLINE void PromoteRows(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                            float* out) {
  for (size_t i = 0; i < n; ++i, out += dim) {
    if (rows[i] != nullptr) [[likely]] {
      PromoteLanes<Lanes>(reinterpret_cast<const uint16_t*>(rows[i]), dim, out);
    } else if (absent_row != nullptr) {
      std::memcpy(out, absent_row, dim * sizeof(float));
    } else {
      ClearRow(dim, out);
    }
  }
}

// round(finite, column): magnitudes of halves from those of floats; column of the first lane.
template <class Lanes, class Round, class RoundOne>
HWY_INLINE void DemoteLanes(const float* from, size_t n, Round round, RoundOne round_one,
                            uint16_t* to) {
  const DI di;
  const hn::Rebind<uint16_t, DI> d16;
  const size_t lanes = hn::Lanes(di);
  size_t c = 0;
  for (; c + lanes <= n; c += lanes) {
    const VI bits = hn::BitCast(di, hn::LoadU(DF(), from + c));
    const VI magnitude = hn::And(bits, SetBits(~kSignBit));
    const auto nan = hn::Gt(magnitude, SetBits(kFloatInfinity));
    const VI finite = hn::Min(magnitude, SetBits(Lanes::Scalar::kLargest));
    const VI sign = hn::And(hn::ShiftRight<16>(bits), SetBits(0x8000));
    const VI half = hn::IfThenElse(nan, SetBits(Lanes::Scalar::kNan),
                                   hn::Or(round(finite, static_cast<uint32_t>(c)), sign));
    hn::StoreU(hn::DemoteTo(d16, half), d16, to + c);
  }
  for (; c < n; ++c) to[c] = round_one(from[c], static_cast<uint32_t>(c));
}

template <class Lanes>
HWY_INLINE void DemoteNearest(const float* from, size_t n, uint16_t* to) {
  DemoteLanes<Lanes>(
      from, n, [](VI finite, uint32_t) { return Lanes::Nearest(finite); },
      [](float value, uint32_t) { return Lanes::Scalar::Nearest(value); }, to);
}

// RoundingBits of the columns from `column` on.
HWY_INLINE VU RandomLanes(uint64_t stream, uint32_t column) {
  const DU du;
  const VU columns = hn::Iota(du, column + 1);
  VU x = hn::Add(hn::Set(du, static_cast<uint32_t>(stream)),
                 hn::Mul(columns, hn::Set(du, 0x9e3779b9u)));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(du, 0x21f0aaadu));
  x = hn::Xor(x, hn::Set(du, static_cast<uint32_t>(stream >> 32)));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(du, 0x735a2d97u));
  return hn::Xor(x, hn::ShiftRight<15>(x));
}

template <class Lanes>
HWY_INLINE void DemoteStochastic(const float* from, size_t n, uint64_t stream, uint16_t* to) {
  DemoteLanes<Lanes>(
      from, n,
      [stream](VI finite, uint32_t column) {
        return Lanes::Stochastic(finite, RandomLanes(stream, column));
      },
      [stream](float value, uint32_t column) {
        return Lanes::Scalar::Stochastic(value, RoundingBits(stream, column));
      },
      to);
}

void PromoteFloat16(const uint16_t* from, size_t n, float* to) {
  PromoteLanes<Float16Lanes>(from, n, to);
}
void PromoteBfloat16(const uint16_t* from, size_t n, float* to) {
  PromoteLanes<Bfloat16Lanes>(from, n, to);
}
void PromoteFloat16Rows(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                        float* out) {
  PromoteRows<Float16Lanes>(rows, n, dim, absent_row, out);
}
void PromoteBfloat16Rows(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                         float* out) {
  PromoteRows<Bfloat16Lanes>(rows, n, dim, absent_row, out);
}
void DemoteFloat16(const float* from, size_t n, uint16_t* to) {
  DemoteNearest<Float16Lanes>(from, n, to);
}
void DemoteBfloat16(const float* from, size_t n, uint16_t* to) {
  DemoteNearest<Bfloat16Lanes>(from, n, to);
}
void DemoteFloat16Stochastic(const float* from, size_t n, uint64_t stream, uint16_t* to) {
  DemoteStochastic<Float16Lanes>(from, n, stream, to);
}
void DemoteBfloat16Stochastic(const float* from, size_t n, uint64_t stream, uint16_t* to) {
  DemoteStochastic<Bfloat16Lanes>(from, n, stream, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace mxrec::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/half.h"
#include "mxrec/runtime.h"

namespace mxrec::kernels {
namespace {

HWY_EXPORT(PromoteFloat16);
HWY_EXPORT(PromoteBfloat16);
HWY_EXPORT(PromoteFloat16Rows);
HWY_EXPORT(PromoteBfloat16Rows);
HWY_EXPORT(DemoteFloat16);
HWY_EXPORT(DemoteBfloat16);
HWY_EXPORT(DemoteFloat16Stochastic);
HWY_EXPORT(DemoteBfloat16Stochastic);

template <class Format>
void PromoteRowsPlain(const float* const* rows, size_t n, size_t dim, const float* absent_row,
                      float* out) {
  for (size_t i = 0; i < n; ++i, out += dim) {
    const auto* halves = reinterpret_cast<const uint16_t*>(rows[i]);
    for (size_t c = 0; c < dim; ++c) {
      const float absent = absent_row != nullptr ? absent_row[c] : 0.0f;
      out[c] = halves != nullptr ? Format::ToFloat(halves[c]) : absent;
    }
  }
}

}  // namespace

RowCopier ChoosePromotingCopier(ValueType type) {
  const bool float16 = type == ValueType::kFloat16;
  if (GetGatherMode() == GatherMode::kHighPrecision) {
    return {float16 ? PromoteRowsPlain<Float16> : PromoteRowsPlain<Bfloat16>, false};
  }
  return {float16 ? HWY_DYNAMIC_DISPATCH(PromoteFloat16Rows)
                  : HWY_DYNAMIC_DISPATCH(PromoteBfloat16Rows),
          false};
}

void PromoteRow(ValueType type, const uint16_t* from, size_t n, float* to) {
  const auto promote = type == ValueType::kFloat16 ? HWY_DYNAMIC_DISPATCH(PromoteFloat16)
                                                   : HWY_DYNAMIC_DISPATCH(PromoteBfloat16);
  promote(from, n, to);
}

void DemoteRow(ValueType type, const float* from, size_t n, uint16_t* to) {
  const auto demote = type == ValueType::kFloat16 ? HWY_DYNAMIC_DISPATCH(DemoteFloat16)
                                                  : HWY_DYNAMIC_DISPATCH(DemoteBfloat16);
  demote(from, n, to);
}

void DemoteRowStochastic(ValueType type, const float* from, size_t n, uint64_t stream,
                         uint16_t* to) {
  const auto demote = type == ValueType::kFloat16 ? HWY_DYNAMIC_DISPATCH(DemoteFloat16Stochastic)
                                                  : HWY_DYNAMIC_DISPATCH(DemoteBfloat16Stochastic);
  demote(from, n, stream, to);
}

}  // namespace mxrec::kernels
#endif  // HWY_ONCE
