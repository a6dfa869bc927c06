// Groupable: a kind of op that the graph optimizer makes part of grouped ones. The grouped op has a
// list for every input, output and attribute of the single one, an element for each member.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "graph_def.h"

namespace mxrec::tf {

struct Groupable {
  struct List {
    const char* attribute;
    AttrField field;
    int64_t otherwise = 0;  // where a member lacks it
  };
  // kLookup: input 0 is a table. The others have no table: the grouped op tells their `names`.
  enum Stage { kLookup, kRestore, kGradient };

  const char* op;
  const char* grouped;
  Stage stage;
  size_t inputs;
  // One more input that members may lack (`num_weights` says whether). They have this one in its
  // place, which the kernel does not read.
  int stand_in;                  // kNoOptionalInput
  std::vector<int64_t> outputs;  // types
  std::vector<List> lists;

  static constexpr int kNoOptionalInput = -1;
  // A lookup that changes its table.
  bool trains() const { return stage == kLookup && outputs.size() > 1; }
  bool has_optional_input() const { return stand_in != kNoOptionalInput; }
  // Whether the node has the inputs of its kind.
  bool Fits(const Node& node) const {
    const size_t more = node.data_inputs() - inputs;  // wraps around if there are too few
    return more == 0 || (more == 1 && has_optional_input());
  }

  // nullptr: the node is of no such kind.
  static const Groupable* Find(const Node& node);
  // Whether a serialized graph may have such nodes: most graphs have none and need no parsing.
  static bool MayBeIn(std::string_view graph_def);
};

}  // namespace mxrec::tf
