// GraphDef: the nodes of a serialized tensorflow.GraphDef. What is not read here (functions,
// versions, attributes, debug information) is carried along byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mxrec/status.h"

namespace mxrec::tf {

// Field numbers of tensorflow.AttrValue.
enum AttrField : uint64_t { kAttrString = 2, kAttrInt = 3, kAttrBool = 5, kAttrType = 6 };

struct Node {
  std::string name;
  std::string op;
  std::vector<std::string> inputs;  // "node", "node:port", then controls "^node"
  std::string device;
  std::string rest;  // the other fields, serialized

  size_t data_inputs() const;  // without controls
  // A varint attribute; `otherwise` if it is not there.
  int64_t Attribute(std::string_view attribute, AttrField field, int64_t otherwise) const;
  // Empty if it is not there.
  std::string_view StringAttribute(std::string_view attribute) const;
  void AddAttribute(std::string_view attribute, AttrField field, int64_t value);
  void AddListAttribute(std::string_view attribute, AttrField field,
                        const std::vector<int64_t>& values);
  void AddListAttribute(std::string_view attribute, const std::vector<std::string>& values);

 private:
  std::string_view AttributeValue(std::string_view attribute) const;  // serialized
};

// An input of a node, taken apart.
struct Edge {
  static constexpr int kControl = -1;
  std::string_view node;
  int port;  // kControl: a control edge

  static Edge Parse(std::string_view input);
};

struct GraphDef {
  std::vector<Node> nodes;
  std::string rest;  // the other fields, serialized

  // kInvalidArgument: the bytes are no GraphDef.
  static Result<GraphDef> Parse(std::string_view bytes);
  std::string Serialize() const;
};

}  // namespace mxrec::tf
