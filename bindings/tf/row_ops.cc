// Ops on rows that need no table: MxrecRestore spreads unique rows over a batch, MxrecSegmentSum
// is its gradient. MxrecGrouped* are several of a kind in one op.
#include <string>

#include "grouped_kernel.h"
#include "kernel_context.h"
#include "mxrec/runtime.h"
#include "op_registration.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

// Inputs (rows, inverse).
class Restore : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor rows, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor inverse, context.Input(1));
    MXREC_RETURN_IF_ERROR(CheckRank("rows", rows, 2));
    MXREC_RETURN_IF_ERROR(CheckInverse(inverse, rows.shape()[0]));
    const int64_t dim = rows.shape()[1];
    MXREC_ASSIGN_OR_RETURN(const Tensor values,
                           context.Output<float>(0, Append(inverse.shape(), dim)));
    kernels::GatherRows(rows.data<float>(), inverse.data<int32_t>(), inverse.size(),
                        static_cast<int>(dim), values.data<float>());
    return {};
  }
};

// Inputs (values, inverse, unique).
class SegmentSum : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Tensor values, context.Input(0));
    MXREC_ASSIGN_OR_RETURN(const Tensor inverse, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(const Tensor unique, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckRank("unique", unique, 1));
    MXREC_RETURN_IF_ERROR(CheckRank("values", values, inverse.rank() + 1));
    const int64_t dim = values.shape().back();
    MXREC_RETURN_IF_ERROR(CheckShape("values", values, Append(inverse.shape(), dim)));
    const int64_t rows = unique.shape()[0];
    MXREC_RETURN_IF_ERROR(CheckInverse(inverse, rows));
    MXREC_ASSIGN_OR_RETURN(const Tensor sums, context.Output<float>(0, {rows, dim}));
    kernels::SegmentSum(values.data<float>(), inverse.data<int32_t>(), inverse.size(),
                        static_cast<size_t>(rows), static_cast<int>(dim), sums.data<float>());
    return {};
  }
};

}  // namespace

void RegisterRowOps() {
  Register<Restore>({
      .name = "MxrecRestore",
      .inputs = {"rows: float", "inverse: int32"},
      .outputs = {"values: float"},
      .attributes = {"group: bool = true"},
      .shape = RestoreShapes,
      .stateful = false,
  });
  Register<SegmentSum>({
      .name = "MxrecSegmentSum",
      .inputs = {"values: float", "inverse: int32", "unique: int64"},
      .outputs = {"sums: float"},
      .attributes = {"group: bool = true"},
      .shape = SegmentSumShapes,
      .stateful = false,
  });
  Register<GroupedRows<Restore>>({
      .name = "MxrecGroupedRestore",
      .inputs = {"rows: N * float", "inverse: N * int32"},
      .outputs = {"values: N * float"},
      .attributes = {"N: int >= 1", "names: list(string)"},
      .shape = GroupedRestoreShapes,
      .stateful = false,
  });
  Register<GroupedRows<SegmentSum>>({
      .name = "MxrecGroupedSegmentSum",
      .inputs = {"values: N * float", "inverse: N * int32", "unique: N * int64"},
      .outputs = {"sums: N * float"},
      .attributes = {"N: int >= 1", "names: list(string)"},
      .shape = GroupedSegmentSumShapes,
      .stateful = false,
  });
}

}  // namespace mxrec::tf
