// Statuses of TensorFlow's C API, and the one mapping between its codes and the engine's.
#pragma once

#include "mxrec/status.h"
#include "tf_c_abi.h"

namespace mxrec::tf {

TF_Code ToTfCode(StatusCode code);
// Codes that the engine does not know become kInternal; the message is kept.
Status FromTf(const TF_Status* status);
void Assign(const Status& from, TF_Status* to);

// Owns a TF_Status.
class TfStatus {
 public:
  TfStatus() : raw_(TF_NewStatus()) {}
  ~TfStatus() { TF_DeleteStatus(raw_); }
  TfStatus(const TfStatus&) = delete;
  TfStatus& operator=(const TfStatus&) = delete;

  TF_Status* get() const { return raw_; }
  bool ok() const { return TF_GetCode(raw_) == TF_OK; }
  Status status() const { return FromTf(raw_); }

 private:
  TF_Status* raw_;
};

}  // namespace mxrec::tf

#define MXREC_TF_CONCAT_INNER(a, b) a##b
#define MXREC_TF_CONCAT(a, b) MXREC_TF_CONCAT_INNER(a, b)
// MXREC_ASSIGN_OR_RETURN(auto x, F()): declares x from a Result, or returns its status.
#define MXREC_ASSIGN_OR_RETURN(declaration, expression) \
  MXREC_ASSIGN_OR_RETURN_INNER(declaration, expression, MXREC_TF_CONCAT(mxrec_result_, __LINE__))
#define MXREC_ASSIGN_OR_RETURN_INNER(declaration, expression, result) \
  auto result = (expression);                                         \
  if (!result.ok()) return result.status();                           \
  declaration = std::move(result).value()
