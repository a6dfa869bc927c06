// Registers an op and its CPU kernel with TensorFlow.
//
// A kernel is a class with
//   Status Init(const Attributes&);              once per node
//   Status Compute(const KernelContext&) const;  once per step, from any thread
// An error fails the node or the step with the message of its status.
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <vector>

#include "kernel_context.h"
#include "mxrec/status.h"
#include "shape_functions.h"
#include "tf_c_abi.h"
#include "tf_status.h"

namespace mxrec::tf {

struct OpDefinition {
  const char* name;
  std::vector<const char*> inputs;
  std::vector<const char*> outputs;
  std::vector<const char*> attributes;
  ShapeFunction shape;
  bool stateful = true;  // false: the outputs depend on nothing but the inputs
};

struct KernelFunctions {
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void*, TF_OpKernelContext*);
  void (*destroy)(void*);
};

void RegisterOp(const OpDefinition& definition, const KernelFunctions& kernel);

// Base of kernels without attributes.
struct NoAttributes {
  Status Init(const Attributes&) { return {}; }
};

// No exception may enter TensorFlow's C frames; the engine's own code throws none, but allocations
// do.
template <class Function>
Status CatchAll(Function&& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory: use smaller batches or free memory");
  } catch (const std::exception& error) {
    return Internal(error.what());
  }
}

template <class Kernel>
void* CreateKernel(TF_OpKernelConstruction* construction) {
  std::unique_ptr<Kernel> kernel;
  const Status status = CatchAll([&] {
    kernel = std::make_unique<Kernel>();
    return kernel->Init(Attributes(construction));
  });
  if (status.ok()) return kernel.release();
  TfStatus tf_status;
  Assign(status, tf_status.get());
  TF_OpKernelConstruction_Failure(construction, tf_status.get());
  return nullptr;
}

template <class Kernel>
void ComputeKernel(void* kernel, TF_OpKernelContext* raw) {
  const Status status =
      CatchAll([&] { return static_cast<const Kernel*>(kernel)->Compute(KernelContext(raw)); });
  if (status.ok()) return;
  TfStatus tf_status;
  Assign(status, tf_status.get());
  TF_OpKernelContext_Failure(raw, tf_status.get());
}

template <class Kernel>
void DestroyKernel(void* kernel) {
  delete static_cast<Kernel*>(kernel);
}

template <class Kernel>
void Register(const OpDefinition& definition) {
  RegisterOp(definition, {CreateKernel<Kernel>, ComputeKernel<Kernel>, DestroyKernel<Kernel>});
}

}  // namespace mxrec::tf
