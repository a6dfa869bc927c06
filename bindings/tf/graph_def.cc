#include "graph_def.h"

#include <algorithm>
#include <charconv>

#include "wire_format.h"

namespace mxrec::tf {
namespace {

// Field numbers in tensorflow/core/framework/{graph,node_def,attr_value}.proto.
constexpr uint64_t kGraphNode = 1;
enum NodeField : uint64_t { kName = 1, kOp = 2, kInput = 3, kDevice = 4, kAttr = 5 };
enum MapEntryField : uint64_t { kKey = 1, kValue = 2 };
constexpr uint64_t kAttrList = 1;

bool ParseNode(std::string_view bytes, Node* node) {
  WireReader fields(bytes);
  while (const auto field = fields.Next()) {
    switch (field->number) {
      case kName:
        node->name = field->bytes;
        break;
      case kOp:
        node->op = field->bytes;
        break;
      case kInput:
        node->inputs.emplace_back(field->bytes);
        break;
      case kDevice:
        node->device = field->bytes;
        break;
      default:
        node->rest += field->raw;
    }
  }
  return !fields.failed();
}

std::string SerializeNode(const Node& node) {
  std::string out;
  AppendBytesField(kName, node.name, &out);
  AppendBytesField(kOp, node.op, &out);
  for (const std::string& input : node.inputs) AppendBytesField(kInput, input, &out);
  AppendBytesField(kDevice, node.device, &out);
  out += node.rest;
  return out;
}

// The bytes of field `number` of a message; empty: there is none.
std::string_view BytesOf(std::string_view message, uint64_t number) {
  WireReader fields(message);
  while (const auto field = fields.Next()) {
    if (field->number == number) return field->bytes;
  }
  return {};
}

void AddAttributeValue(std::string_view attribute, std::string_view value, std::string* rest) {
  std::string entry;
  AppendBytesField(kKey, attribute, &entry);
  AppendBytesField(kValue, value, &entry);
  AppendBytesField(kAttr, entry, rest);
}

}  // namespace

size_t Node::data_inputs() const {
  return static_cast<size_t>(
      std::count_if(inputs.begin(), inputs.end(),
                    [](const std::string& input) { return !input.starts_with('^'); }));
}

std::string_view Node::AttributeValue(std::string_view attribute) const {
  WireReader fields(rest);
  while (const auto field = fields.Next()) {
    if (field->number == kAttr && BytesOf(field->bytes, kKey) == attribute) {
      return BytesOf(field->bytes, kValue);
    }
  }
  return {};
}

int64_t Node::Attribute(std::string_view attribute, AttrField wanted, int64_t otherwise) const {
  WireReader values(AttributeValue(attribute));
  while (const auto value = values.Next()) {
    if (value->number == wanted) return static_cast<int64_t>(value->value);
  }
  return otherwise;
}

std::string_view Node::StringAttribute(std::string_view attribute) const {
  return BytesOf(AttributeValue(attribute), kAttrString);
}

void Node::AddAttribute(std::string_view attribute, AttrField field, int64_t value) {
  std::string serialized;
  AppendVarintField(field, static_cast<uint64_t>(value), &serialized);
  AddAttributeValue(attribute, serialized, &rest);
}

void Node::AddListAttribute(std::string_view attribute, AttrField field,
                            const std::vector<int64_t>& values) {
  std::string list;
  AppendPackedField(field, values, &list);
  std::string serialized;
  AppendBytesField(kAttrList, list, &serialized);
  AddAttributeValue(attribute, serialized, &rest);
}

void Node::AddListAttribute(std::string_view attribute, const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values) AppendBytesField(kAttrString, value, &list);
  std::string serialized;
  AppendBytesField(kAttrList, list, &serialized);
  AddAttributeValue(attribute, serialized, &rest);
}

Edge Edge::Parse(std::string_view input) {
  if (input.starts_with('^')) return {input.substr(1), kControl};
  const size_t colon = input.rfind(':');
  if (colon == std::string_view::npos) return {input, 0};
  int port = 0;
  std::from_chars(input.data() + colon + 1, input.data() + input.size(), port);
  return {input.substr(0, colon), port};
}

Result<GraphDef> GraphDef::Parse(std::string_view bytes) {
  GraphDef graph;
  WireReader fields(bytes);
  bool ok = true;
  while (const auto field = fields.Next()) {
    if (field->number == kGraphNode) {
      ok = ok && ParseNode(field->bytes, &graph.nodes.emplace_back());
    } else {
      graph.rest += field->raw;
    }
  }
  if (!ok || fields.failed()) return InvalidArgument("the graph is no valid GraphDef");
  return graph;
}

std::string GraphDef::Serialize() const {
  std::string out;
  for (const Node& node : nodes) AppendBytesField(kGraphNode, SerializeNode(node), &out);
  return out + rest;
}

}  // namespace mxrec::tf
