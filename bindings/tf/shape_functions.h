// Shapes of the ops' outputs, as far as they are known when the graph is built. Input order is that
// of the op definitions; a grouped op has a list for each input and output. TensorFlow's C API
// hides int attributes from shape functions; that is why `like`, an empty [0, dim] tensor, carries
// the width.
#pragma once

#include "tf_c_abi.h"

namespace mxrec::tf {

using ShapeFunction = void (*)(TF_ShapeInferenceContext*, TF_Status*);

// (table, proxy, ids, like) -> values [ids + dim], [u], [u], [ids]
extern const ShapeFunction LookupShapes;
extern const ShapeFunction GroupedLookupShapes;
// (table, proxy, ids, like) -> rows [u, dim], [u], [u], [ids]
extern const ShapeFunction LookupUniqueShapes;
extern const ShapeFunction GroupedLookupUniqueShapes;
// (table, ids, like, absent) -> values [ids + dim]
extern const ShapeFunction ReadShapes;
extern const ShapeFunction GroupedReadShapes;
// (table, proxy, ids, like, splits) -> pooled [bags, dim], [u], [u], [ids]
extern const ShapeFunction PooledLookupShapes;
extern const ShapeFunction GroupedPooledLookupShapes;
// (table, ids, like, absent, splits, weights) -> pooled [bags, dim]
extern const ShapeFunction PooledReadShapes;
extern const ShapeFunction GroupedPooledReadShapes;
// (rows [u, dim], inverse, splits, weights) -> pooled [bags, dim]
extern const ShapeFunction PooledRestoreShapes;
extern const ShapeFunction GroupedPooledRestoreShapes;
// (grads [bags, dim], inverse, unique [u], splits, weights) -> sums [u, dim]
extern const ShapeFunction PooledSegmentSumShapes;
extern const ShapeFunction GroupedPooledSegmentSumShapes;
// (grads [bags, dim], rows, inverse, splits, weights) -> [inverse]
extern const ShapeFunction PooledWeightGradientsShapes;
extern const ShapeFunction GroupedPooledWeightGradientsShapes;
// (indices [n, rank], dense_shape [rank], ...) -> splits [bags + 1]
void BagSplitsShapes(TF_ShapeInferenceContext* context, TF_Status* status);
// (rows [u, dim], inverse) -> values [inverse + dim]
extern const ShapeFunction RestoreShapes;
extern const ShapeFunction GroupedRestoreShapes;
// (values [..., dim], inverse, unique [u]) -> sums [u, dim]
extern const ShapeFunction SegmentSumShapes;
extern const ShapeFunction GroupedSegmentSumShapes;
// (table, addresses or keys [m], grads [m, dim], learning_rate) -> ()
extern const ShapeFunction ApplyShapes;
extern const ShapeFunction GroupedApplyShapes;
// (table, keys [m], values [m, dim]) -> ()
void InsertShapes(TF_ShapeInferenceContext* context, TF_Status* status);
// (table, ids) -> [m]
void MissingShapes(TF_ShapeInferenceContext* context, TF_Status* status);
// (ids) -> [ids]
void SameShape(TF_ShapeInferenceContext* context, TF_Status* status);
// (table) -> scalar
void NoOutputs(TF_ShapeInferenceContext* context, TF_Status* status);
void ScalarShape(TF_ShapeInferenceContext* context, TF_Status* status);

}  // namespace mxrec::tf
