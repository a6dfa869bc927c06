#include <nanobind/nanobind.h>

#include "init.h"

NB_MODULE(_mxrec, m) {
  // The interpreter may end before the modules that hold tables: no report of that to users.
  nanobind::set_leak_warnings(false);
  m.doc() = "The engine of mxrec, as it is. The documented interface is the package mxrec.";
  mxrec::python::InitErrors(m);
  mxrec::python::InitOptions(m);
  mxrec::python::InitTableSave(m);
  mxrec::python::InitTable(m);
  mxrec::python::InitRuntime(m);
  mxrec::python::InitCheckpoint(m);
  mxrec::python::InitKernels(m);
  mxrec::python::InitWarmStart(m);
}
