// Replaces lookups of a graph that are ready together, and the ops on their rows, by one grouped op
// of each kind.
//
// The graph is one that TensorFlow is about to execute for given feeds and fetches, so the question
// "are these lookups always needed together?" has an exact answer: every lookup that the fetches
// need runs, once, whether grouped or not. Grouped are ops
//   - of one kind (groupable.h) on one device,
//   - none of which depends on another, by data or control edges,
//   - that depend on the same waiting ops (may_wait.h), if on any,
//   - that run whenever the graph does: not in a branch of tf.cond or a loop,
//   - whose attribute `group` is true, and whose outputs are not fed.
// An op whose name must stay (it is fetched) becomes an IdentityN of the grouped op's outputs.
//
// Where a table admits keys by their counts, it matters which of its training lookups comes first.
// In a group they run in the order of their names; those that could be grouped but for their kind
// or device run one after the other, in an order that depends on the lookups alone.
//
// A partial run (Session.partial_run) looks like any other one here. It waits for its caller, for
// ids that are fed later: its lookups must have `group` false.
#pragma once

#include <string>
#include <vector>

#include "graph_def.h"
#include "mxrec/status.h"

namespace mxrec::tf {

struct RunTargets {
  std::vector<std::string> fetches;    // nodes, or "node:port"
  std::vector<std::string> preserved;  // nodes whose names must stay: fetches, feeds and others
};

// Returns whether anything changed. kInvalidArgument: the graph is inconsistent and as it was.
Result<bool> GroupLookups(const RunTargets& targets, GraphDef* graph);

}  // namespace mxrec::tf
