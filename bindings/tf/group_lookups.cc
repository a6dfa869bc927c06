#include "group_lookups.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "groupable.h"
#include "may_wait.h"
#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "resource_handle.h"
#include "tf_c_abi.h"

namespace mxrec::tf {
namespace {

bool IsMerge(const Node& node) { return node.op == "Merge" || node.op == "RefMerge"; }
bool IsNext(const Node& node) {
  return node.op == "NextIteration" || node.op == "RefNextIteration";
}
bool IsSwitch(const Node& node) {
  return node.op == "Switch" || node.op == "RefSwitch" || node.op == "_SwitchN";
}

// Under what conditions a node runs: (predicate, branch) of each tf.cond around it, and (-1 - node,
// 0) for each loop, whose end is not followed.
using Conditions = std::set<std::pair<int, int>>;

// How far a step has come before a node: lookups on the longest path to it, and since the last of
// them the rounds of restores and gradients. Every groupable op is on a higher level than those
// before it, so ops of one level do not depend on each other, not even by way of other groups.
struct Level {
  int lookups = 0;
  int rows = 0;  // odd: restores, even: gradients
  auto operator<=>(const Level&) const = default;

  Level After(Groupable::Stage stage) const {
    if (stage == Groupable::kLookup) return {lookups + 1, 0};
    const bool next_is_restore = rows % 2 == 0;
    return {lookups, rows + (next_is_restore == (stage == Groupable::kRestore) ? 1 : 2)};
  }
};

class Analysis {
 public:
  Analysis(const RunTargets& targets, const GraphDef& graph) : graph_(graph), waiting_ops_(graph) {
    for (const std::string& name : targets.preserved) preserved_.insert(name);
    for (const std::string& fetch : targets.fetches) {
      fetched_.insert(std::string(Edge::Parse(fetch).node));
    }
    // In a function the preserved nodes are its side effects, which always run. In a graph those
    // that are not fetched are fed: what only they need does not run.
    is_function_ = std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
      return node.op == "_Arg" || node.op == "_Retval";
    });
  }

  Status Run() {
    MXREC_RETURN_IF_ERROR(Connect());
    MarkNeeded();
    return Order();
  }

  bool IsPreserved(int node) const { return preserved_.contains(At(node).name); }
  // Whether the node may be grouped with others of the same level that wait for the same.
  bool MayGroup(int node) const {
    const Node& n = At(node);
    const Groupable* kind = Groupable::Find(n);
    return kind != nullptr && needed_[Index(node)] && !IsFed(n) &&
           conditions_[Index(node)].empty() && kind->Fits(n) &&
           n.Attribute("group", kAttrBool, 1) != 0;
  }
  Level level(int node) const { return level_[Index(node)]; }
  // Which waiting ops the node depends on, as a number of the set.
  int waits(int node) const { return waits_[Index(node)]; }

 private:
  struct Input {
    int node;
    int port;
  };

  static size_t Index(int node) { return static_cast<size_t>(node); }
  const Node& At(int node) const { return graph_.nodes[Index(node)]; }
  int size() const { return static_cast<int>(graph_.nodes.size()); }
  bool IsFed(const Node& node) const {
    return !is_function_ && preserved_.contains(node.name) && !fetched_.contains(node.name);
  }

  Status Connect() {
    std::unordered_map<std::string_view, int> by_name;
    for (int i = 0; i < size(); ++i) by_name.emplace(At(i).name, i);
    inputs_.resize(graph_.nodes.size());
    for (int i = 0; i < size(); ++i) {
      for (const std::string& input : At(i).inputs) {
        const Edge edge = Edge::Parse(input);
        const auto from = by_name.find(edge.node);
        if (from == by_name.end()) {
          return InvalidArgument("node '" + At(i).name + "' has the input '" + input +
                                 "', which is not in the graph");
        }
        inputs_[Index(i)].push_back({from->second, edge.port});
      }
    }
    return {};
  }

  void MarkNeeded() {
    needed_.resize(graph_.nodes.size());
    std::vector<int> open;
    for (int i = 0; i < size(); ++i) {
      const bool root = fetched_.contains(At(i).name) || (is_function_ && IsPreserved(i));
      if (root) open.push_back(i);
    }
    while (!open.empty()) {
      const int node = open.back();
      open.pop_back();
      if (needed_[Index(node)] || IsFed(At(node))) continue;
      needed_[Index(node)] = true;
      for (const Input& input : inputs_[Index(node)]) open.push_back(input.node);
    }
  }

  // Levels, conditions and waits, inputs before their consumers.
  Status Order() {
    level_.resize(graph_.nodes.size());
    waits_.resize(graph_.nodes.size(), NodeSets::kEmpty);
    conditions_.resize(graph_.nodes.size());
    std::vector<int> waiting(graph_.nodes.size());
    std::vector<std::vector<int>> consumers(graph_.nodes.size());
    std::vector<int> ready;
    for (int i = 0; i < size(); ++i) {
      for (const Input& input : inputs_[Index(i)]) {
        if (IsBackEdge(input, i)) continue;
        ++waiting[Index(i)];
        consumers[Index(input.node)].push_back(i);
      }
      if (waiting[Index(i)] == 0) ready.push_back(i);
    }
    int done = 0;
    for (; !ready.empty(); ++done) {
      const int node = ready.back();
      ready.pop_back();
      Visit(node);
      for (const int consumer : consumers[Index(node)]) {
        if (--waiting[Index(consumer)] == 0) ready.push_back(consumer);
      }
    }
    if (done == size()) return {};
    return InvalidArgument("the graph has a cycle outside of loops");
  }

  bool IsBackEdge(const Input& input, int consumer) const {
    return IsMerge(At(consumer)) && IsNext(At(input.node));
  }

  void Visit(int node) {
    const Node& n = At(node);
    Conditions& conditions = conditions_[Index(node)];
    Level& level = level_[Index(node)];
    bool first = true;
    for (const Input& input : inputs_[Index(node)]) {
      if (IsBackEdge(input, node)) continue;
      level = std::max(level, level_[Index(input.node)]);
      const Conditions from = ConditionsOf(input);
      if (IsMerge(n) && input.port != Edge::kControl && !first) {
        // One of its inputs is enough: what all have in common remains.
        std::erase_if(conditions, [&](const auto& each) { return !from.contains(each); });
      } else {
        conditions.insert(from.begin(), from.end());
      }
      first = false;
    }
    if (n.op == "Enter" || n.op == "RefEnter") conditions.emplace(-1 - node, 0);
    if (const Groupable* kind = Groupable::Find(n)) level = level.After(kind->stage);
    waits_[Index(node)] = WaitsOf(node);
  }

  int WaitsOf(int node) {
    const Node& n = At(node);
    if (IsFed(n)) return NodeSets::kEmpty;
    int all = NodeSets::kEmpty;
    Branches branches;
    std::set<int> different;
    for (const Input& input : inputs_[Index(node)]) {
      if (IsBackEdge(input, node)) continue;
      const int waits = waits_[Index(input.node)];
      all = sets_.Union(all, waits);
      if (!IsMerge(n) || input.port == Edge::kControl) continue;
      branches[ConditionsOf(input)].insert(waits);
      different.insert(waits);
    }
    if (waiting_ops_.Contains(n)) all = sets_.With(all, node);
    if (different.size() < 2) return all;
    // What is waited for depends on the branch that is taken, the same way behind all merges of
    // such branches.
    const auto next = -1 - static_cast<int>(merges_.size());
    return sets_.With(all, merges_.try_emplace(std::move(branches), next).first->second);
  }

  Conditions ConditionsOf(const Input& input) const {
    Conditions conditions = conditions_[Index(input.node)];
    const auto& from = inputs_[Index(input.node)];
    if (IsSwitch(At(input.node)) && input.port != Edge::kControl && from.size() >= 2) {
      conditions.emplace(from[1].node, input.port);
    }
    return conditions;
  }

  const GraphDef& graph_;
  const WaitingOps waiting_ops_;
  std::unordered_set<std::string> preserved_;
  std::unordered_set<std::string> fetched_;
  bool is_function_ = false;
  std::vector<std::vector<Input>> inputs_;
  std::vector<bool> needed_;
  std::vector<Level> level_;
  std::vector<Conditions> conditions_;
  std::vector<int> waits_;
  NodeSets sets_;
  // What the branches before a merge wait for.
  using Branches = std::map<Conditions, std::set<int>>;
  std::map<Branches, int> merges_;  // numbers that no node has
};

std::string PortName(const std::string& node, size_t port) {
  return port == 0 ? node : node + ":" + std::to_string(port);
}

// The grouped op of `members`, and what becomes of each of them.
class Group {
 public:
  Group(const Groupable& kind, std::vector<const Node*> members)
      : kind_(kind), members_(std::move(members)) {
    node_.op = kind.grouped;
    node_.device = members_.front()->device;
    for (size_t j = 0; j < kind.inputs; ++j) {
      for (const Node* member : members_) node_.inputs.push_back(member->inputs[j]);
    }
    if (kind.has_optional_input()) {
      for (const Node* member : members_) {
        const bool has = member->data_inputs() > kind.inputs;
        const size_t place = has ? kind.inputs : static_cast<size_t>(kind.stand_in);
        node_.inputs.push_back(member->inputs[place]);
      }
    }
    std::set<std::string> controls;
    std::vector<std::string> names;
    for (const Node* member : members_) {
      const auto data = static_cast<std::ptrdiff_t>(member->data_inputs());
      controls.insert(member->inputs.begin() + data, member->inputs.end());
      names.push_back(member->name);
    }
    node_.inputs.insert(node_.inputs.end(), controls.begin(), controls.end());
    node_.AddAttribute("N", kAttrInt, static_cast<int64_t>(members_.size()));
    for (const Groupable::List& list : kind.lists) AddList(list);
    if (kind.stage != Groupable::kLookup) node_.AddListAttribute("names", names);
    node_.name = members_.front()->name + "/grouped_" + Fingerprint();
  }

  const Node& node() const { return node_; }
  void Rename() { node_.name += '_'; }
  // The grouped op's name for an output of a member.
  std::string Output(size_t member, int port) const {
    if (port == Edge::kControl) return "^" + node_.name;
    return PortName(node_.name, static_cast<size_t>(port) * members_.size() + member);
  }
  Node Identity(size_t member) const {
    Node identity;
    identity.name = members_[member]->name;
    identity.op = "IdentityN";
    identity.device = node_.device;
    for (size_t port = 0; port < kind_.outputs.size(); ++port) {
      identity.inputs.push_back(Output(member, static_cast<int>(port)));
    }
    identity.AddListAttribute("T", kAttrType, kind_.outputs);
    return identity;
  }

 private:
  void AddList(const Groupable::List& list) {
    if (list.field == kAttrString) {
      std::vector<std::string> values;
      for (const Node* member : members_) {
        values.emplace_back(member->StringAttribute(list.attribute));
      }
      node_.AddListAttribute(list.attribute, values);
      return;
    }
    std::vector<int64_t> values;
    for (const Node* member : members_) {
      values.push_back(member->Attribute(list.attribute, list.field, list.otherwise));
    }
    node_.AddListAttribute(list.attribute, list.field, values);
  }

  // A session keeps kernels by the names of their nodes and uses them for all of its graphs: other
  // fetches may group other lookups, so the name says which these are (FNV-1a).
  std::string Fingerprint() const {
    uint64_t hash = 14695981039346656037u;
    const auto add = [&](std::string_view text) {
      for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
      hash = (hash ^ 256) * 1099511628211u;
    };
    for (const std::string& input : node_.inputs) add(input);
    add(node_.rest);
    std::array<char, 16> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), hash, 16).ptr;
    return {digits.data(), end};
  }

  const Groupable& kind_;
  std::vector<const Node*> members_;
  Node node_;
};

// Whether the order of a table's training lookups shows in their results.
bool OrderMatters(const Node& handle) {
  // In functions, which get handles as arguments, TensorFlow orders the ops on them.
  if (handle.op != "VarHandleOp") return false;
  const std::string_view name = handle.StringAttribute("shared_name");
  if (!name.starts_with(kTablePrefix)) return false;
  const auto table = FindTable(std::string(name.substr(kTablePrefix.size())));
  return table == nullptr || table->options().admission.on();  // null: of another process
}

// The training lookups of one table that wait for the same: where they run (a group, or else a
// node), in the order in which they shall.
//
// Edges along this order make no cycle, also together with those of other tables: an op on whose
// outputs another one depends, grouped or not, is on a lower level, and so comes before it.
using Place = std::tuple<Level, const Groupable*, std::string, std::string>;  // device, name
using Sequences = std::map<std::pair<std::string, int>, std::set<Place>>;

// Returns whether there are new edges.
bool Chain(const Sequences& sequences, GraphDef* graph) {
  std::unordered_map<std::string_view, Node*> by_name;
  for (Node& node : graph->nodes) by_name.emplace(node.name, &node);
  bool changed = false;
  for (const auto& [table, sequence] : sequences) {
    std::string before;
    for (const Place& place : sequence) {
      const std::string& name = std::get<3>(place);
      std::vector<std::string>& inputs = by_name.at(name)->inputs;
      const bool there = std::find(inputs.begin(), inputs.end(), before) != inputs.end();
      if (!before.empty() && !there) {
        inputs.push_back(before);
        changed = true;
      }
      before = "^" + name;
    }
  }
  return changed;
}

}  // namespace

Result<bool> GroupLookups(const RunTargets& targets, GraphDef* graph) {
  Analysis analysis(targets, *graph);
  MXREC_RETURN_IF_ERROR(analysis.Run());

  using Key = std::tuple<const Groupable*, std::string, Level, int>;
  std::map<Key, std::vector<int>> together;
  for (int i = 0; i < static_cast<int>(graph->nodes.size()); ++i) {
    if (!analysis.MayGroup(i)) continue;
    const Node& node = graph->nodes[static_cast<size_t>(i)];
    const Key key{Groupable::Find(node), node.device, analysis.level(i), analysis.waits(i)};
    together[key].push_back(i);
  }
  std::unordered_map<std::string_view, const Node*> by_name;
  for (const Node& node : graph->nodes) by_name.emplace(node.name, &node);
  std::unordered_map<std::string, bool> order_matters;  // by the handle's name
  Sequences sequences;                                  // keys: names of handles
  const auto note = [&](const Key& key, const std::vector<const Node*>& nodes,
                        const std::string& name) {
    const auto& [kind, device, level, waits] = key;
    if (!kind->trains()) return;
    for (const Node* node : nodes) {
      const std::string handle(Edge::Parse(node->inputs[0]).node);
      const auto [matters, is_new] = order_matters.try_emplace(handle);
      if (is_new) matters->second = OrderMatters(*by_name.at(handle));
      if (matters->second) sequences[{handle, waits}].insert({level, kind, device, name});
    }
  };

  struct Member {
    size_t group;
    size_t member;
  };
  std::vector<Group> groups;
  std::unordered_map<std::string, Member> replaced;  // by name: consumers read the grouped op
  std::unordered_map<int, Node> identities;          // by node
  std::unordered_set<int> removed;
  for (auto& [key, members] : together) {
    // Lookups of one table run in this order. That of the nodes depends on what else is in the
    // graph, on where ids come from for one.
    std::sort(members.begin(), members.end(), [&](int a, int b) {
      return graph->nodes[static_cast<size_t>(a)].name < graph->nodes[static_cast<size_t>(b)].name;
    });
    std::vector<const Node*> nodes;
    for (const int i : members) nodes.push_back(&graph->nodes[static_cast<size_t>(i)]);
    if (members.size() < 2) {
      note(key, nodes, nodes.front()->name);
      continue;
    }
    groups.emplace_back(*std::get<0>(key), nodes);
    while (by_name.contains(groups.back().node().name)) groups.back().Rename();
    note(key, nodes, groups.back().node().name);
    for (size_t m = 0; m < members.size(); ++m) {
      if (analysis.IsPreserved(members[m])) {
        identities.emplace(members[m], groups.back().Identity(m));
      } else {
        replaced.emplace(nodes[m]->name, Member{groups.size() - 1, m});
        removed.insert(members[m]);
      }
    }
  }
  if (groups.empty()) return Chain(sequences, graph);

  GraphDef result;
  result.rest = graph->rest;
  for (int i = 0; i < static_cast<int>(graph->nodes.size()); ++i) {
    if (removed.contains(i)) continue;
    const auto identity = identities.find(i);
    result.nodes.push_back(identity == identities.end() ? graph->nodes[static_cast<size_t>(i)]
                                                        : identity->second);
  }
  for (const Group& group : groups) result.nodes.push_back(group.node());
  for (Node& node : result.nodes) {
    std::set<std::string> controls;  // each once: several members may have become one node
    std::vector<std::string> inputs;
    for (std::string& input : node.inputs) {
      const Edge edge = Edge::Parse(input);
      const auto place = replaced.find(std::string(edge.node));
      if (place != replaced.end()) {
        input = groups[place->second.group].Output(place->second.member, edge.port);
      }
      if (edge.port != Edge::kControl || controls.insert(input).second) inputs.push_back(input);
    }
    node.inputs = std::move(inputs);
  }
  Chain(sequences, &result);
  *graph = std::move(result);
  return true;
}

}  // namespace mxrec::tf
