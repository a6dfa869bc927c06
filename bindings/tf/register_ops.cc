#include "register_ops.h"

namespace mxrec::tf {
namespace {

[[maybe_unused]] const bool kRegistered = [] {
  RegisterLookupOps();
  RegisterRowOps();
  RegisterPoolingOps();
  RegisterApplyOps();
  RegisterTableOps();
  RegisterServedOps();
  return true;
}();

}  // namespace
}  // namespace mxrec::tf
