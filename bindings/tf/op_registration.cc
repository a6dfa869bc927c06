#include "op_registration.h"

#include <cstdio>

namespace mxrec::tf {
namespace {

// Runs while the library is being loaded, where there is no caller to return an error to. Loading
// goes on and TensorFlow refuses the op when it is used; this line says why.
void ReportIfFailed(const char* op, const TfStatus& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "mxrec: TensorFlow refused op %s: %s\n", op,
                 status.status().message().c_str());
  }
}

}  // namespace

void RegisterOp(const OpDefinition& definition, const KernelFunctions& kernel) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(definition.name);
  for (const char* attribute : definition.attributes) {
    TF_OpDefinitionBuilderAddAttr(builder, attribute);
  }
  for (const char* input : definition.inputs) TF_OpDefinitionBuilderAddInput(builder, input);
  for (const char* output : definition.outputs) TF_OpDefinitionBuilderAddOutput(builder, output);
  // TensorFlow ignores the flag's value: a call with false would make the op stateful, too.
  if (definition.stateful) TF_OpDefinitionBuilderSetIsStateful(builder, true);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, definition.shape);

  TfStatus op_status;
  TF_RegisterOpDefinition(builder, op_status.get());  // frees the builder
  ReportIfFailed(definition.name, op_status);

  TfStatus kernel_status;
  TF_RegisterKernelBuilder(
      definition.name,
      TF_NewKernelBuilder(definition.name, "CPU", kernel.create, kernel.compute, kernel.destroy),
      kernel_status.get());
  ReportIfFailed(definition.name, kernel_status);
}

}  // namespace mxrec::tf
