#include "may_wait.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "wire_format.h"

namespace mxrec::tf {
namespace {

// Of the ops of TensorFlow 2.15 to 2.21 those whose kernels block, without versions: QueueDequeue
// stands for QueueDequeueV2, too.
constexpr std::array kOps = std::to_array<std::string_view>({
    // Queues, full ones included, and readers, which take the names of their files from one.
    "QueueDequeue",
    "QueueDequeueMany",
    "QueueDequeueUpTo",
    "QueueEnqueue",
    "QueueEnqueueMany",
    "ReaderRead",
    "ReaderReadUpTo",
    "BarrierTakeMany",
    "AccumulatorTakeGradient",
    "ResourceAccumulatorTakeGradient",
    "SparseAccumulatorTakeGradient",
    // Staging areas
    "Stage",
    "StagePeek",
    "Unstage",
    "MapStage",
    "MapPeek",
    "MapUnstage",
    "MapUnstageNoKey",
    "OrderedMapStage",
    "OrderedMapPeek",
    "OrderedMapUnstage",
    "OrderedMapUnstageNoKey",
    // A lock is released when all that depends on it has run.
    "MutexLock",
    // Whatever Python does. A PyFuncStateless has promised to depend on nothing but its inputs.
    "PyFunc",
    "EagerPyFunc",
    // Calls: a graph optimizer sees no functions. Those that may be inlined have been.
    "StatefulPartitionedCall",
    "RemoteCall",
    "If",
    "While",
    "Case",
    // Other steps, processes and devices
    "Batch",
    "BatchFunction",
    "Unbatch",
    "UnbatchGrad",
    "RpcCheckStatus",
    "RpcGetValue",
    "Recv",
    "_Recv",
    "_HostRecv",
});
// Names begin with these.
constexpr std::array kFamilies = std::to_array<std::string_view>(
    {"Collective", "Nccl", "_Nccl", "Infeed", "Outfeed", "RecvTPUEmbedding", "XlaRecv", "_XlaRecv",
     "XlaHostCompute", "_XlaHostCompute"});

std::string_view WithoutVersion(std::string_view op) {
  const size_t end = op.find_last_not_of("0123456789");
  const bool versioned = end != std::string_view::npos && end + 1 < op.size() && op[end] == 'V';
  return versioned ? op.substr(0, end) : op;
}

bool Waits(std::string_view op) {
  return std::find(kOps.begin(), kOps.end(), WithoutVersion(op)) != kOps.end() ||
         std::any_of(kFamilies.begin(), kFamilies.end(),
                     [&](std::string_view family) { return op.starts_with(family); });
}

// Field numbers in tensorflow/core/framework/{graph,function,op_def}.proto.
constexpr uint64_t kGraphLibrary = 2;
constexpr uint64_t kLibraryFunction = 1;
constexpr uint64_t kFunctionSignature = 1;
enum SignatureField : uint64_t { kName = 1, kIsStateful = 17 };

// Calls visit(bytes) for each field `number` of a message.
template <class Visit>
void ForEachField(std::string_view message, uint64_t number, Visit visit) {
  WireReader fields(message);
  while (const auto field = fields.Next()) {
    if (field->number == number) visit(field->bytes);
  }
}

}  // namespace

WaitingOps::WaitingOps(const GraphDef& graph) {
  ForEachField(graph.rest, kGraphLibrary, [&](std::string_view library) {
    ForEachField(library, kLibraryFunction, [&](std::string_view function) {
      ForEachField(function, kFunctionSignature, [&](std::string_view signature) {
        std::string_view name;
        bool is_stateful = false;
        WireReader fields(signature);
        while (const auto field = fields.Next()) {
          if (field->number == kName) name = field->bytes;
          if (field->number == kIsStateful) is_stateful = field->value != 0;
        }
        if (is_stateful) functions_.emplace(name);
      });
    });
  });
}

bool WaitingOps::Contains(const Node& node) const {
  return Waits(node.op) || functions_.contains(node.op);
}

int NodeSets::Union(int a, int b) {
  if (a == b || b == kEmpty) return a;
  if (a == kEmpty) return b;
  const auto [known, is_new] = unions_.try_emplace(std::minmax(a, b), kEmpty);
  if (is_new) {
    Nodes both = *sets_[static_cast<size_t>(a)];
    const Nodes& more = *sets_[static_cast<size_t>(b)];
    both.insert(more.begin(), more.end());
    known->second = Number(std::move(both));
  }
  return known->second;
}

int NodeSets::Number(Nodes nodes) {
  const auto [place, is_new] =
      numbers_.try_emplace(std::move(nodes), static_cast<int>(sets_.size()));
  if (is_new) sets_.push_back(&place->first);
  return place->second;
}

}  // namespace mxrec::tf
