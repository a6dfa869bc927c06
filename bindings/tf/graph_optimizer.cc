// The graph optimizer that TensorFlow runs on what a step, or a function, is about to execute:
// group_lookups.h behind TensorFlow's C API.
//
// TensorFlow runs the optimizers of plugins on graphs that have nodes on the plugin's device, here
// the CPU. If this one fails, TensorFlow goes on with the graph as it was.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "grappler_abi.h"
#include "group_lookups.h"
#include "groupable.h"
#include "op_registration.h"

namespace mxrec::tf {
namespace {

struct NameList {
  TF_NamesSize size = nullptr;
  TF_Names names = nullptr;

  Result<std::vector<std::string>> Read(const TF_GrapplerItem* item) const {
    TfStatus status;
    int count = 0;
    size_t bytes = 0;
    size(item, &count, &bytes, status.get());
    if (!status.ok()) return status.status();
    if (count == 0) return std::vector<std::string>();
    std::vector<char*> values(static_cast<size_t>(count));
    std::vector<size_t> lengths(values.size());
    std::string storage(bytes, '\0');
    names(item, values.data(), lengths.data(), count, storage.data(), bytes, status.get());
    if (!status.ok()) return status.status();
    std::vector<std::string> result;
    for (size_t i = 0; i < values.size(); ++i) result.emplace_back(values[i], lengths[i]);
    return result;
  }
};

NameList fetch_nodes;
NameList nodes_to_preserve;

Status FindFunctionsNow() {
  // Python loads the library, but shows its names to nobody.
  void* library = dlopen("libtensorflow_cc.so.2", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) library = RTLD_DEFAULT;
  const auto find = [&](NameList* list, const std::string& name) -> Status {
    list->size = reinterpret_cast<TF_NamesSize>(dlsym(library, (name + "Size").c_str()));
    list->names = reinterpret_cast<TF_Names>(dlsym(library, name.c_str()));
    if (list->size != nullptr && list->names != nullptr) return {};
    return NotFound("this TensorFlow does not export " + name + "; lookups are not grouped");
  };
  MXREC_RETURN_IF_ERROR(find(&fetch_nodes, "TF_GetFetchNodesList"));
  return find(&nodes_to_preserve, "TF_GetNodesToPreserveList");
}

const Status& FindFunctions() {
  static const Status status = FindFunctionsNow();
  return status;
}

// Whether the optimized graph is in *out; otherwise the graph stays as it is.
Result<bool> Optimize(const TF_Buffer* in, const TF_GrapplerItem* item, TF_Buffer* out) {
  const std::string_view bytes(static_cast<const char*>(in->data), in->length);
  if (!Groupable::MayBeIn(bytes)) return false;
  MXREC_RETURN_IF_ERROR(FindFunctions());
  RunTargets targets;
  MXREC_ASSIGN_OR_RETURN(targets.fetches, fetch_nodes.Read(item));
  MXREC_ASSIGN_OR_RETURN(targets.preserved, nodes_to_preserve.Read(item));
  MXREC_ASSIGN_OR_RETURN(GraphDef graph, GraphDef::Parse(bytes));
  MXREC_ASSIGN_OR_RETURN(const bool changed, GroupLookups(targets, &graph));
  if (!changed) return false;
  const std::string result = graph.Serialize();
  void* data = std::malloc(result.size());
  if (data == nullptr) return ResourceExhausted("out of memory while lookups were grouped");
  std::memcpy(data, result.data(), result.size());
  out->data = data;
  out->length = result.size();
  out->data_deallocator = [](void* memory, size_t) { std::free(memory); };
  return true;
}

void OptimizeForTensorFlow(void*, const TF_Buffer* in, const TF_GrapplerItem* item, TF_Buffer* out,
                           TF_Status* status) {
  bool changed = false;
  const Status result = CatchAll([&]() -> Status {
    MXREC_ASSIGN_OR_RETURN(changed, Optimize(in, item, out));
    return {};
  });
  if (result.ok() && !changed) {  // how an optimizer says that it has nothing to do
    TF_SetStatus(status, TF_ABORTED, "no lookups to group");
    return;
  }
  Assign(result, status);
}

}  // namespace
}  // namespace mxrec::tf

namespace {
bool registered = false;
}

// TensorFlow ends the process if this fails, or if it registers a second optimizer for a device.
void TF_InitGraph(TP_OptimizerRegistrationParams* params, TF_Status* status) {
  registered = true;
  params->device_type = "CPU";
  params->optimizer->optimize_func = mxrec::tf::OptimizeForTensorFlow;
  TF_SetStatus(status, TF_OK, "");
}

int MxrecGraphOptimizerState() {
  if (registered) return 1;
  return mxrec::tf::FindFunctions().ok() ? 0 : 2;
}
