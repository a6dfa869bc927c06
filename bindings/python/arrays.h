// Arrays that come in and go out. What comes in is taken as it is or refused: nothing is converted
// or copied silently. An array is refused with TypeError for its type or dtype and with ValueError
// for its shape, layout or missing write access; the message names the parameter.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "mxrec/table_types.h"

namespace mxrec::python {

// A view of an array of the caller, valid while it lives. Destroy it with the GIL held.
template <class T>
class ArrayView {
 public:
  // Shape: -1 accepts any size. T const: a read-only array will do.
  ArrayView(nanobind::handle array, const char* parameter, std::initializer_list<int64_t> shape);
  ~ArrayView() { PyBuffer_Release(&buffer_); }
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;

  T* data() const { return static_cast<T*>(buffer_.buf); }
  size_t rows() const { return static_cast<size_t>(buffer_.shape[0]); }
  size_t size() const { return static_cast<size_t>(buffer_.len) / sizeof(T); }
  std::span<T> span() const { return {data(), size()}; }

 private:
  Py_buffer buffer_;
};

extern template class ArrayView<const int64_t>;
extern template class ArrayView<const int32_t>;
extern template class ArrayView<const float>;
extern template class ArrayView<float>;

// The keys of a batch: [n], int64 or int32, read in place. Destroy it with the GIL held.
class KeyArray {
 public:
  KeyArray(nanobind::handle array, const char* parameter);
  ~KeyArray() { PyBuffer_Release(&buffer_); }
  KeyArray(const KeyArray&) = delete;
  KeyArray& operator=(const KeyArray&) = delete;

  size_t size() const { return static_cast<size_t>(buffer_.shape[0]); }
  KeySpan span() const;

 private:
  Py_buffer buffer_;
};

// A new numpy array, not initialised, and the memory behind it.
template <class T>
struct NewArray {
  explicit NewArray(std::initializer_list<size_t> shape);
  // A one-dimensional copy of `values`.
  explicit NewArray(const std::vector<T>& values);

  nanobind::object array;
  T* data;
};

extern template struct NewArray<bool>;
extern template struct NewArray<uint32_t>;
extern template struct NewArray<int64_t>;
extern template struct NewArray<float>;

}  // namespace mxrec::python
