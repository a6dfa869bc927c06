// Status and Result: how the engine reports errors. No exception crosses the core's public API.
//
// Messages are written for the person who called: they name the parameter or file, the value,
// the allowed range and the fix. The bindings add nothing to them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#define MXREC_API __attribute__((visibility("default")))

namespace mxrec {

enum class StatusCode : unsigned char {
  kOk = 0,
  kInvalidArgument,     // a bad value; Python ValueError
  kNotFound,            // no such table, file or version; Python KeyError / FileNotFoundError
  kAlreadyExists,       // the name is taken
  kFailedPrecondition,  // right value, wrong moment (closed table, another optimizer is bound)
  kResourceExhausted,   // table full, out of memory, disk full; Python MemoryError / CapacityError
  kDataLoss,            // a damaged or truncated file
  kIoError,             // the operating system refused
  kInternal,            // a broken invariant: a bug
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status InvalidArgument(std::string m) {
  return {StatusCode::kInvalidArgument, std::move(m)};
}
inline Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
inline Status AlreadyExists(std::string m) { return {StatusCode::kAlreadyExists, std::move(m)}; }
inline Status FailedPrecondition(std::string m) {
  return {StatusCode::kFailedPrecondition, std::move(m)};
}
inline Status ResourceExhausted(std::string m) {
  return {StatusCode::kResourceExhausted, std::move(m)};
}
inline Status DataLoss(std::string m) { return {StatusCode::kDataLoss, std::move(m)}; }
inline Status IoError(std::string m) { return {StatusCode::kIoError, std::move(m)}; }
inline Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace mxrec

#define MXREC_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (::mxrec::Status mxrec_status_ = (expr); !mxrec_status_.ok()) return mxrec_status_; \
  } while (false)
