#include "register_ops.h"

namespace mxrec::tf {
namespace {

[[maybe_unused]] const bool kRegistered = [] {
  RegisterLookupOps();
  RegisterRowOps();
  RegisterApplyOps();
  RegisterTableOps();
  return true;
}();

}  // namespace
}  // namespace mxrec::tf
