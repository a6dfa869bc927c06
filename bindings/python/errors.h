// The one place where a Status becomes a Python exception.
//
//   kInvalidArgument, kAlreadyExists   ValueError
//   kNotFound                          FileNotFoundError
//   kFailedPrecondition, kInternal     RuntimeError
//   kResourceExhausted                 CapacityError (a MemoryError)
//   kDataLoss                          DataLossError (an OSError)
//   kIoError                           OSError
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "mxrec/status.h"

namespace mxrec::python {

class StatusError : public std::exception {
 public:
  explicit StatusError(Status status) : status_(std::move(status)) {}
  const Status& status() const { return status_; }
  const char* what() const noexcept override { return status_.message().c_str(); }

 private:
  Status status_;
};

inline void Check(const Status& status) {
  if (!status.ok()) throw StatusError(status);
}

template <class T>
T Unwrap(Result<T> result) {
  Check(result.status());
  return std::move(result).value();
}

}  // namespace mxrec::python
