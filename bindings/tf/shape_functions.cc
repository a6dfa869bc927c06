#include "shape_functions.h"

#include <cstdint>
#include <limits>
#include <utility>

#include "member.h"

namespace mxrec::tf {
namespace {

// Owns a TF_ShapeHandle.
class ShapeRef {
 public:
  ShapeRef() : raw_(TF_NewShapeHandle()) {}
  explicit ShapeRef(TF_ShapeHandle* raw) : raw_(raw) {}
  ShapeRef(ShapeRef&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  ShapeRef& operator=(ShapeRef&&) = delete;
  ~ShapeRef() {
    if (raw_ != nullptr) TF_DeleteShapeHandle(raw_);
  }
  TF_ShapeHandle* get() const { return raw_; }

 private:
  TF_ShapeHandle* raw_;
};

// Shape arithmetic that stops at the first error: later calls do nothing and the status stays.
class Inference {
 public:
  Inference(TF_ShapeInferenceContext* context, TF_Status* status, Member member = {})
      : context_(context), status_(status), member_(member) {}

  ShapeRef Input(int index) {
    ShapeRef shape;
    if (ok()) TF_ShapeInferenceContextGetInput(context_, member_.at(index), shape.get(), status_);
    return shape;
  }
  ShapeRef Input(int index, int64_t rank) {
    const ShapeRef any = Input(index);
    ShapeRef shape;
    if (ok()) TF_ShapeInferenceContextWithRank(context_, any.get(), rank, shape.get(), status_);
    return shape;
  }
  // The last axis of an input of rank 1 or more, as a shape of rank 1.
  ShapeRef LastAxis(int index) {
    const ShapeRef any = Input(index);
    if (!ok() || !TF_ShapeInferenceContextRankKnown(context_, any.get())) return UnknownVector();
    ShapeRef shape;
    TF_ShapeInferenceContextWithRankAtLeast(context_, any.get(), 1, shape.get(), status_);
    ShapeRef last;
    if (ok()) {
      TF_ShapeInferenceContextSubshape(context_, shape.get(), -1,
                                       std::numeric_limits<int64_t>::max(), last.get(), status_);
    }
    return last;
  }
  // The second axis of an input of rank 2, as a shape of rank 1.
  ShapeRef Width(int index) {
    const ShapeRef matrix = Input(index, 2);
    ShapeRef width;
    if (ok()) TF_ShapeInferenceContextSubshape(context_, matrix.get(), 1, 2, width.get(), status_);
    return width;
  }
  // A size of -1 is how TensorFlow writes an unknown one.
  ShapeRef UnknownVector() {
    return ShapeRef(TF_ShapeInferenceContextVectorFromSize(context_, static_cast<size_t>(-1)));
  }
  ShapeRef Scalar() { return ShapeRef(TF_ShapeInferenceContextScalar(context_)); }
  ShapeRef Join(const ShapeRef& first, const ShapeRef& second) {
    ShapeRef joined;
    if (ok()) {
      TF_ShapeInferenceContextConcatenateShapes(context_, first.get(), second.get(), joined.get(),
                                                status_);
    }
    return joined;
  }
  void Output(int index, const ShapeRef& shape) {
    if (ok()) TF_ShapeInferenceContextSetOutput(context_, member_.at(index), shape.get(), status_);
  }

 private:
  bool ok() const { return TF_GetCode(status_) == TF_OK; }

  TF_ShapeInferenceContext* context_;
  TF_Status* status_;
  Member member_;
};

// Outputs 1 to 3 of both training lookups: unique_keys, addresses, inverse.
void UniqueOutputs(Inference* shapes, const ShapeRef& ids) {
  shapes->Output(1, shapes->UnknownVector());
  shapes->Output(2, shapes->UnknownVector());
  shapes->Output(3, ids);
  shapes->Input(4, 1);
  shapes->Input(5, 1);
}

// --- One member of a group, or an op by itself --------------------------------------------------

void Lookup(Inference* shapes) {
  const ShapeRef ids = shapes->Input(2);
  shapes->Output(0, shapes->Join(ids, shapes->Width(3)));
  UniqueOutputs(shapes, ids);
}

void LookupUnique(Inference* shapes) {
  const ShapeRef ids = shapes->Input(2);
  shapes->Output(0, shapes->Join(shapes->UnknownVector(), shapes->Width(3)));
  UniqueOutputs(shapes, ids);
}

void Read(Inference* shapes) {
  shapes->Input(3, 1);
  shapes->Output(0, shapes->Join(shapes->Input(1), shapes->Width(2)));
}

void Apply(Inference* shapes) {
  shapes->Input(1, 1);
  shapes->Input(2, 2);
  shapes->Input(3, 0);
}

void Restore(Inference* shapes) {
  shapes->Output(0, shapes->Join(shapes->Input(1), shapes->Width(0)));
}

void SegmentSum(Inference* shapes) {
  shapes->Output(0, shapes->Join(shapes->Input(2, 1), shapes->LastAxis(0)));
}

// The number of bags is one less than the number of splits, which shapes cannot express: the
// callers in Python set it.
void PooledLookup(Inference* shapes) {
  shapes->Input(6, 1);
  shapes->Output(0, shapes->Join(shapes->UnknownVector(), shapes->Width(3)));
  UniqueOutputs(shapes, shapes->Input(2, 1));
}

void PooledRead(Inference* shapes) {
  shapes->Input(1, 1);
  shapes->Input(3, 1);
  shapes->Input(4, 1);
  shapes->Output(0, shapes->Join(shapes->UnknownVector(), shapes->Width(2)));
}

void PooledRestore(Inference* shapes) {
  shapes->Input(1, 1);
  shapes->Input(2, 1);
  shapes->Output(0, shapes->Join(shapes->UnknownVector(), shapes->Width(0)));
}

void PooledSegmentSum(Inference* shapes) {
  shapes->Input(1, 1);
  shapes->Input(3, 1);
  shapes->Output(0, shapes->Join(shapes->Input(2, 1), shapes->Width(0)));
}

void PooledWeightGradients(Inference* shapes) {
  shapes->Input(0, 2);
  shapes->Input(1, 2);
  shapes->Input(3, 1);
  shapes->Output(0, shapes->Input(2, 1));
}

template <void (*kShapes)(Inference*)>
void Single(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  kShapes(&shapes);
}

// kInputs: of one member, weights included. The C API hides N.
template <void (*kShapes)(Inference*), int kInputs>
void Grouped(TF_ShapeInferenceContext* context, TF_Status* status) {
  const auto members = static_cast<int>(TF_ShapeInferenceContextNumInputs(context) / kInputs);
  for (int i = 0; i < members; ++i) {
    Inference shapes(context, status, {i, members});
    kShapes(&shapes);
  }
}

}  // namespace

constinit const ShapeFunction LookupShapes = Single<Lookup>;
constinit const ShapeFunction LookupUniqueShapes = Single<LookupUnique>;
constinit const ShapeFunction ReadShapes = Single<Read>;
constinit const ShapeFunction ApplyShapes = Single<Apply>;
constinit const ShapeFunction RestoreShapes = Single<Restore>;
constinit const ShapeFunction SegmentSumShapes = Single<SegmentSum>;
constinit const ShapeFunction PooledLookupShapes = Single<PooledLookup>;
constinit const ShapeFunction PooledReadShapes = Single<PooledRead>;
constinit const ShapeFunction PooledRestoreShapes = Single<PooledRestore>;
constinit const ShapeFunction PooledSegmentSumShapes = Single<PooledSegmentSum>;
constinit const ShapeFunction PooledWeightGradientsShapes = Single<PooledWeightGradients>;
constinit const ShapeFunction GroupedLookupShapes = Grouped<Lookup, 6>;
constinit const ShapeFunction GroupedLookupUniqueShapes = Grouped<LookupUnique, 6>;
constinit const ShapeFunction GroupedReadShapes = Grouped<Read, 4>;
constinit const ShapeFunction GroupedApplyShapes = Grouped<Apply, 4>;
constinit const ShapeFunction GroupedRestoreShapes = Grouped<Restore, 2>;
constinit const ShapeFunction GroupedSegmentSumShapes = Grouped<SegmentSum, 3>;
constinit const ShapeFunction GroupedPooledLookupShapes = Grouped<PooledLookup, 7>;
constinit const ShapeFunction GroupedPooledReadShapes = Grouped<PooledRead, 6>;
constinit const ShapeFunction GroupedPooledRestoreShapes = Grouped<PooledRestore, 4>;
constinit const ShapeFunction GroupedPooledSegmentSumShapes = Grouped<PooledSegmentSum, 5>;
constinit const ShapeFunction GroupedPooledWeightGradientsShapes =
    Grouped<PooledWeightGradients, 5>;

void BagSplitsShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  shapes.Input(0, 2);
  shapes.Input(1, 1);
  shapes.Output(0, shapes.UnknownVector());
}

void InsertShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  shapes.Input(1, 1);
  shapes.Input(2, 2);
}

void MissingShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  shapes.Output(0, shapes.UnknownVector());
}

void SameShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  shapes.Output(0, shapes.Input(0));
}

void NoOutputs(TF_ShapeInferenceContext* /*context*/, TF_Status* /*status*/) {}

void ScalarShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  Inference shapes(context, status);
  shapes.Output(0, shapes.Scalar());
}

}  // namespace mxrec::tf
