// One init function per subject of the core; each adds its part of the module mxrec._mxrec.
#pragma once

#include <nanobind/nanobind.h>

namespace mxrec::python {

void InitErrors(nanobind::module_& m);  // first: the others throw
void InitOptions(nanobind::module_& m);
void InitTableSave(nanobind::module_& m);
void InitTable(nanobind::module_& m);
void InitRuntime(nanobind::module_& m);
void InitCheckpoint(nanobind::module_& m);
void InitKernels(nanobind::module_& m);
void InitWarmStart(nanobind::module_& m);

}  // namespace mxrec::python
