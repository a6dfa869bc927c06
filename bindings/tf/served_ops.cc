// MxrecServedRead: the lookup of an exported model.
#include <memory>
#include <string>

#include "kernel_context.h"
#include "mxrec/table.h"
#include "op_registration.h"
#include "reading.h"
#include "register_ops.h"
#include "served_tables.h"
#include "shape_functions.h"
#include "util/mutex.h"

namespace mxrec::tf {
namespace {

// Inputs (asset, ids, like, absent). The table is loaded by the first step, and is the kernel's own
// from then on: no table of the process has anything to do with it.
class ServedRead {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(path_, attributes.String("path"));
    MXREC_ASSIGN_OR_RETURN(uid_, attributes.String("uid"));
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const auto table, TheTable(context));
    MXREC_ASSIGN_OR_RETURN(const KeyBatch ids, KeyBatch::FromInput(context, 1));
    MXREC_ASSIGN_OR_RETURN(const Tensor like, context.Input(2));
    MXREC_RETURN_IF_ERROR(CheckWidth(*table, like));
    MXREC_ASSIGN_OR_RETURN(const Tensor absent, context.Input(3));
    MXREC_ASSIGN_OR_RETURN(const float* absent_row, AbsentRow(absent, table->dim()));
    MXREC_ASSIGN_OR_RETURN(const Tensor values,
                           context.Output<float>(0, Append(ids.shape(), table->dim())));
    return table->Lookup(ids.keys(), absent_row, values.data<float>());
  }

 private:
  Result<std::shared_ptr<Table>> TheTable(const KernelContext& context) const {
    const MutexLock lock(*mu_);
    if (table_ == nullptr) {
      MXREC_ASSIGN_OR_RETURN(const Tensor input, context.Input(0));
      MXREC_ASSIGN_OR_RETURN(const std::string asset, StringScalar("asset", input));
      MXREC_ASSIGN_OR_RETURN(table_, ServedTable(InModelOf(asset, path_), uid_));
    }
    return table_;
  }

  std::string path_;
  std::string uid_;
  std::unique_ptr<Mutex> mu_ = std::make_unique<Mutex>();
  mutable std::shared_ptr<Table> table_ MXREC_GUARDED_BY(*mu_);
};

}  // namespace

void RegisterServedOps() {
  Register<ServedRead>({
      .name = "MxrecServedRead",
      .inputs = {"asset: string", "ids: T", "like: float", "absent: float"},
      .outputs = {"values: float"},
      .attributes = {"T: {int64, int32}", "path: string", "uid: string"},
      .shape = ReadShapes,
  });
}

}  // namespace mxrec::tf
