// Ops that may finish only after another op has run to which no edge leads: one that fills a queue,
// releases a lock, joins a collective. That other op may be of the same step.
//
// A grouped op waits for the inputs of all its members. If one of them waited for a queue that is
// filled with what another one looks up, the step would never end. So lookups are grouped only if
// all of them depend on the same waiting ops: then each of them would have waited for them anyway.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph_def.h"

namespace mxrec::tf {

// The waiting ops of one graph, calls of stateful functions included. Not among them are iterators,
// which wait for their own input alone, and ops of other libraries.
class WaitingOps {
 public:
  explicit WaitingOps(const GraphDef& graph);
  bool Contains(const Node& node) const;

 private:
  std::unordered_set<std::string> functions_;  // stateful ones
};

// Sets of nodes, each kept once and named by a number: equal sets have equal numbers.
class NodeSets {
 public:
  static constexpr int kEmpty = 0;

  NodeSets() { Number({}); }
  int With(int set, int node) { return Union(set, Number({node})); }
  int Union(int a, int b);

 private:
  using Nodes = std::set<int>;
  int Number(Nodes nodes);

  std::map<Nodes, int> numbers_;
  std::vector<const Nodes*> sets_;  // by number
  std::map<std::pair<int, int>, int> unions_;
};

}  // namespace mxrec::tf
