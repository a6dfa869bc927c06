// When a training batch happened, as Python gives it: None, a number, or an array of them.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "arrays.h"

namespace mxrec::python {

class Timestamps {
 public:
  // None: no time; an integer, Python's or numpy's, or an int64 or int32 array of one dimension;
  // otherwise TypeError.
  explicit Timestamps(nanobind::handle timestamp) {
    if (timestamp.is_none()) return;
    if (PyBool_Check(timestamp.ptr())) {
      throw nanobind::type_error(
          "timestamp must be an int, or an int64 or int32 array [m], got a bool");
    }
    if (PyFloat_Check(timestamp.ptr())) {
      throw nanobind::type_error(
          "timestamp must be an int, or an int64 or int32 array [m], got a float; "
          "pass int(timestamp), whole seconds");
    }
    const bool is_array =
        nanobind::hasattr(timestamp, "ndim") && nanobind::cast<int>(timestamp.attr("ndim")) > 0;
    if (!is_array && PyIndex_Check(timestamp.ptr())) {
      const auto number = nanobind::steal(PyNumber_Index(timestamp.ptr()));
      if (!number.is_valid()) throw nanobind::python_error();
      int beyond = 0;
      const int64_t value = PyLong_AsLongLongAndOverflow(number.ptr(), &beyond);
      // One that no int64 holds is out of the range of timestamps, as are these.
      constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
      constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
      values_.push_back(beyond == 0 ? value : beyond < 0 ? kLeast : kMost);
      return;
    }
    const KeyArray array(timestamp, "timestamp");
    values_.reserve(array.size());
    for (size_t i = 0; i < array.size(); ++i) values_.push_back(array.span()[i]);
  }
  std::span<const int64_t> span() const { return values_; }

 private:
  std::vector<int64_t> values_;
};

}  // namespace mxrec::python
