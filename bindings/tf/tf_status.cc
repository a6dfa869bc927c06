#include "tf_status.h"

#include <algorithm>
#include <string>

namespace mxrec::tf {
namespace {

struct CodePair {
  StatusCode engine;
  TF_Code tf;
};
// An error of the operating system has no code of its own in TensorFlow.
constexpr CodePair kCodes[] = {
    {StatusCode::kOk, TF_OK},
    {StatusCode::kInvalidArgument, TF_INVALID_ARGUMENT},
    {StatusCode::kNotFound, TF_NOT_FOUND},
    {StatusCode::kAlreadyExists, TF_ALREADY_EXISTS},
    {StatusCode::kFailedPrecondition, TF_FAILED_PRECONDITION},
    {StatusCode::kResourceExhausted, TF_RESOURCE_EXHAUSTED},
    {StatusCode::kDataLoss, TF_DATA_LOSS},
    {StatusCode::kIoError, TF_UNKNOWN},
    {StatusCode::kInternal, TF_INTERNAL},
};

}  // namespace

TF_Code ToTfCode(StatusCode code) {
  const auto* pair =
      std::find_if(std::begin(kCodes), std::end(kCodes), [&](auto& p) { return p.engine == code; });
  return pair == std::end(kCodes) ? TF_INTERNAL : pair->tf;
}

Status FromTf(const TF_Status* status) {
  const TF_Code code = TF_GetCode(status);
  if (code == TF_OK) return {};
  const auto* pair =
      std::find_if(std::begin(kCodes), std::end(kCodes), [&](auto& p) { return p.tf == code; });
  return {pair == std::end(kCodes) ? StatusCode::kInternal : pair->engine, TF_Message(status)};
}

void Assign(const Status& from, TF_Status* to) {
  TF_SetStatus(to, ToTfCode(from.code()), from.message().c_str());
}

}  // namespace mxrec::tf
