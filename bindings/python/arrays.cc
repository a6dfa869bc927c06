#include "arrays.h"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>
#include <type_traits>

namespace nb = nanobind;

namespace mxrec::python {
namespace {

template <class T>
struct Dtype;
template <>
struct Dtype<bool> {
  static constexpr const char* kName = "bool";
  static constexpr const char* kFormats = "?";
};
template <>
struct Dtype<int32_t> {
  static constexpr const char* kName = "int32";
  static constexpr const char* kFormats = "il";
};
template <>
struct Dtype<uint32_t> {
  static constexpr const char* kName = "uint32";
  static constexpr const char* kFormats = "IL";
};
template <>
struct Dtype<int64_t> {
  static constexpr const char* kName = "int64";
  static constexpr const char* kFormats = "lq";
};
template <>
struct Dtype<float> {
  static constexpr const char* kName = "float32";
  static constexpr const char* kFormats = "f";
};

std::string TypeName(nb::handle object) {
  return nb::cast<std::string>(object.type().attr("__name__"));
}

// "(3, 4)", Python's spelling; a size of -1 reads "n".
template <class Size>
std::string ShapeText(const Size* sizes, size_t count) {
  std::string text = "(";
  for (size_t i = 0; i < count; ++i) {
    if (i > 0) text += ", ";
    text += sizes[i] < 0 ? "n" : std::to_string(sizes[i]);
  }
  return text + (count == 1 ? ",)" : ")");
}

// Native byte order, one of the letters that mean this type, and its size.
bool IsFormat(const Py_buffer& buffer, const char* formats, size_t itemsize) {
  const char* format = buffer.format;
  if (format == nullptr || static_cast<size_t>(buffer.itemsize) != itemsize) return false;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  return format[0] != '\0' && format[1] == '\0' &&
         std::string(formats).find(format[0]) != std::string::npos;
}

std::string DtypeText(nb::handle array, const Py_buffer& buffer) {
  if (nb::hasattr(array, "dtype")) {
    const nb::object dtype = array.attr("dtype");
    return nb::str(dtype).c_str();
  }
  return std::string("format '") + (buffer.format == nullptr ? "B" : buffer.format) + "'";
}

[[noreturn]] void RefuseType(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] void RefuseValue(const std::string& message) {
  throw nb::value_error(message.c_str());
}

void CheckBuffer(nb::handle array, const std::string& name, const Py_buffer& buffer,
                 const char* dtype, const char* formats, size_t itemsize, bool writable,
                 std::initializer_list<int64_t> shape) {
  if (!IsFormat(buffer, formats, itemsize)) {
    const std::string fix =
        writable ? "; allocate it with np.empty(shape, np." + std::string(dtype) + ")"
                 : "; convert it with " + name + ".astype(np." + dtype + ")";
    RefuseType(name + " must have dtype " + dtype + ", got " + DtypeText(array, buffer) + fix);
  }
  bool same = static_cast<size_t>(buffer.ndim) == shape.size();
  for (size_t i = 0; same && i < shape.size(); ++i) {
    const int64_t wanted = shape.begin()[i];
    same = wanted < 0 || buffer.shape[i] == wanted;
  }
  if (!same) {
    RefuseValue(name + " must have shape " + ShapeText(shape.begin(), shape.size()) + ", got " +
                ShapeText(buffer.shape, static_cast<size_t>(buffer.ndim)));
  }
  if (buffer.len > 0 && !PyBuffer_IsContiguous(&buffer, 'C')) {
    RefuseValue(name + " must be C-contiguous, got strides " +
                ShapeText(buffer.strides, static_cast<size_t>(buffer.ndim)) +
                (writable ? "; pass an array of its own, not a strided view"
                          : "; copy it with np.ascontiguousarray(" + name + ")"));
  }
  if (reinterpret_cast<uintptr_t>(buffer.buf) % itemsize != 0) {
    RefuseValue(name + " must be aligned to " + std::to_string(itemsize) +
                " bytes; pass a copy of it");
  }
  if (writable && buffer.readonly) {
    RefuseValue(name + " must be writable, got a read-only array; pass a copy of it");
  }
}

}  // namespace

KeyArray::KeyArray(nb::handle array, const char* parameter) {
  const std::string name = parameter;
  if (PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_RECORDS_RO) != 0) {
    PyErr_Clear();
    RefuseType(name + " must be a numpy array of dtype int64 or int32, got " + TypeName(array) +
               "; convert it with np.asarray(" + name + ", np.int64)");
  }
  try {
    if (IsFormat(buffer_, Dtype<int32_t>::kFormats, sizeof(int32_t))) {
      CheckBuffer(array, name, buffer_, Dtype<int32_t>::kName, Dtype<int32_t>::kFormats,
                  sizeof(int32_t), false, {-1});
    } else {
      CheckBuffer(array, name, buffer_, Dtype<int64_t>::kName, Dtype<int64_t>::kFormats,
                  sizeof(int64_t), false, {-1});
    }
  } catch (...) {
    PyBuffer_Release(&buffer_);
    throw;
  }
}

KeySpan KeyArray::span() const {
  if (buffer_.itemsize == sizeof(int32_t)) {
    return {static_cast<const int32_t*>(buffer_.buf), size()};
  }
  return {static_cast<const int64_t*>(buffer_.buf), size()};
}

template <class T>
ArrayView<T>::ArrayView(nb::handle array, const char* parameter,
                        std::initializer_list<int64_t> shape) {
  using Item = std::remove_const_t<T>;
  const std::string name = parameter;
  if (PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_RECORDS_RO) != 0) {
    PyErr_Clear();
    RefuseType(name + " must be a numpy array of dtype " + Dtype<Item>::kName + ", got " +
               TypeName(array) + "; convert it with np.asarray(" + name + ", np." +
               Dtype<Item>::kName + ")");
  }
  try {
    CheckBuffer(array, name, buffer_, Dtype<Item>::kName, Dtype<Item>::kFormats, sizeof(Item),
                !std::is_const_v<T>, shape);
  } catch (...) {
    PyBuffer_Release(&buffer_);
    throw;
  }
}

template <class T>
NewArray<T>::NewArray(std::initializer_list<size_t> shape) {
  nb::list sizes;
  for (size_t size : shape) sizes.append(size);
  array = nb::module_::import_("numpy").attr("empty")(nb::tuple(sizes), Dtype<T>::kName);
  Py_buffer buffer;
  if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_WRITABLE) != 0) nb::raise_python_error();
  data = static_cast<T*>(buffer.buf);
  PyBuffer_Release(&buffer);  // the array owns its memory and is not resized here
}

template <class T>
NewArray<T>::NewArray(const std::vector<T>& values) : NewArray({values.size()}) {
  std::copy(values.begin(), values.end(), data);
}

template class ArrayView<const int64_t>;
template class ArrayView<const int32_t>;
template class ArrayView<const float>;
template class ArrayView<float>;
template struct NewArray<bool>;
template struct NewArray<uint32_t>;
template struct NewArray<int64_t>;
template struct NewArray<float>;

}  // namespace mxrec::python
