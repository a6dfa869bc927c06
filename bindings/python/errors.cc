#include "errors.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "init.h"

namespace nb = nanobind;

namespace mxrec::python {
namespace {

// Owned by the module; set once by InitErrors and alive as long as the interpreter.
PyObject* capacity_error = nullptr;
PyObject* data_loss_error = nullptr;

PyObject* ExceptionFor(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kAlreadyExists:
      return PyExc_ValueError;
    case StatusCode::kNotFound:
      return PyExc_FileNotFoundError;
    case StatusCode::kResourceExhausted:
      return capacity_error;
    case StatusCode::kDataLoss:
      return data_loss_error;
    case StatusCode::kIoError:
      return PyExc_OSError;
    case StatusCode::kOk:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kInternal:
      break;
  }
  return PyExc_RuntimeError;
}

PyObject* AddException(nb::module_& m, const char* name, const char* doc, PyObject* base) {
  const std::string qualified = nb::cast<std::string>(m.attr("__name__")) + "." + name;
  nb::object type = nb::steal(PyErr_NewExceptionWithDoc(qualified.c_str(), doc, base, nullptr));
  if (!type.is_valid()) nb::raise_python_error();
  m.attr(name) = type;
  return type.release().ptr();
}

}  // namespace

void InitErrors(nb::module_& m) {
  capacity_error = AddException(
      m, "CapacityError", "A table is full, or memory or disk space ran out.", PyExc_MemoryError);
  data_loss_error =
      AddException(m, "DataLossError", "A stored file is damaged or truncated.", PyExc_OSError);
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const StatusError& e) {
      PyErr_SetString(ExceptionFor(e.status().code()), e.what());
    }
  });
}

}  // namespace mxrec::python
