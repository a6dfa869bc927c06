// Updates: one op is one step of the optimizer that is bound to the table; a grouped one is a step
// for each of its tables.
#include <memory>
#include <string>

#include "grouped_kernel.h"
#include "kernel_context.h"
#include "mxrec/table.h"
#include "op_registration.h"
#include "register_ops.h"
#include "shape_functions.h"

namespace mxrec::tf {
namespace {

// Inputs (table, targets, grads, learning_rate), checked. Targets are addresses or keys.
struct Update {
  std::shared_ptr<Table> table;
  Tensor targets;
  Tensor grads;
  float learning_rate;

  static Result<Update> FromInputs(const KernelContext& context, const char* targets_name) {
    MXREC_ASSIGN_OR_RETURN(auto table, context.InputTable(0));
    MXREC_ASSIGN_OR_RETURN(Tensor targets, context.Input(1));
    MXREC_ASSIGN_OR_RETURN(Tensor grads, context.Input(2));
    MXREC_ASSIGN_OR_RETURN(const Tensor learning_rate, context.Input(3));
    MXREC_RETURN_IF_ERROR(CheckRank(targets_name, targets, 1));
    MXREC_RETURN_IF_ERROR(CheckShape("grads", grads, {targets.shape()[0], table->dim()}));
    MXREC_RETURN_IF_ERROR(CheckRank("learning_rate", learning_rate, 0));
    return Update{std::move(table), std::move(targets), std::move(grads),
                  *learning_rate.data<float>()};
  }
};

class ApplyAddresses {
 public:
  Status Init(const Attributes& attributes) {
    MXREC_ASSIGN_OR_RETURN(const std::string stale, attributes.String("stale"));
    policy_ = stale == "fall_back" ? StaleAddress::kFallBack : StaleAddress::kReject;
    return {};
  }
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Update update, Update::FromInputs(context, "addresses"));
    ApplyResult result;  // the table's statistics count skipped gradients
    return update.table->ApplyToAddresses(update.targets.span<const int64_t>(),
                                          update.grads.data<float>(), update.learning_rate, policy_,
                                          &result);
  }

 private:
  StaleAddress policy_ = StaleAddress::kReject;
};

class ApplyKeys : public NoAttributes {
 public:
  Status Compute(const KernelContext& context) const {
    MXREC_ASSIGN_OR_RETURN(const Update update, Update::FromInputs(context, "keys"));
    ApplyResult result;
    return update.table->ApplyGradients(update.targets.span<const int64_t>(),
                                        update.grads.data<float>(), update.learning_rate, &result);
  }
};

}  // namespace

void RegisterApplyOps() {
  Register<ApplyAddresses>({
      .name = "MxrecApplyAddresses",
      .inputs = {"table: resource", "addresses: int64", "grads: float", "learning_rate: float"},
      .outputs = {},
      .attributes = {"stale: {'reject', 'fall_back'} = 'reject'"},
      .shape = ApplyShapes,
  });
  Register<ApplyKeys>({
      .name = "MxrecApplyKeys",
      .inputs = {"table: resource", "keys: int64", "grads: float", "learning_rate: float"},
      .outputs = {},
      .attributes = {},
      .shape = ApplyShapes,
  });
  Register<Grouped<ApplyAddresses>>({
      .name = "MxrecGroupedApplyAddresses",
      .inputs = {"tables: N * resource", "addresses: N * int64", "grads: N * float",
                 "learning_rates: N * float"},
      .outputs = {},
      .attributes = {"N: int >= 1", "stale: {'reject', 'fall_back'} = 'reject'"},
      .shape = GroupedApplyShapes,
  });
}

}  // namespace mxrec::tf
