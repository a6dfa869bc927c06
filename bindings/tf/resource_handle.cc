#include "resource_handle.h"

#include <cstdint>
#include <optional>

namespace mxrec::tf {
namespace {

// Field numbers in tensorflow/core/framework/resource_handle.proto.
constexpr uint64_t kNameField = 3;
constexpr uint64_t kTypeNameField = 5;

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

std::optional<uint64_t> ReadVarint(std::string_view* in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(in->front());
    in->remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

std::optional<std::string_view> ReadBytes(std::string_view* in, uint64_t length) {
  if (length > in->size()) return std::nullopt;
  const std::string_view bytes = in->substr(0, length);
  in->remove_prefix(length);
  return bytes;
}

// The payload of one field; empty for varints.
std::optional<std::string_view> ReadPayload(std::string_view* in, uint64_t wire_type) {
  switch (wire_type) {
    case kVarint:
      return ReadVarint(in) ? std::optional(std::string_view()) : std::nullopt;
    case kFixed64:
      return ReadBytes(in, 8);
    case kFixed32:
      return ReadBytes(in, 4);
    case kLengthDelimited: {
      const auto length = ReadVarint(in);
      return length ? ReadBytes(in, *length) : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<ResourceHandle> ParseResourceHandle(std::string_view proto) {
  ResourceHandle handle;
  while (!proto.empty()) {
    const auto tag = ReadVarint(&proto);
    const auto payload = tag ? ReadPayload(&proto, *tag & 7) : std::nullopt;
    if (!payload) {
      return InvalidArgument(
          "the resource handle is no valid ResourceHandleProto: make the handle with "
          "mxrec.tf.create_table");
    }
    if (*tag >> 3 == kNameField) handle.name = *payload;
    if (*tag >> 3 == kTypeNameField) handle.type_name = *payload;
  }
  return handle;
}

Result<std::string> TableName(const ResourceHandle& handle) {
  // A table travels as the handle of a variable that is never created.
  const bool is_variable =
      handle.type_name.empty() || handle.type_name.find("Var") != std::string::npos;
  if (!is_variable || !handle.name.starts_with(kTablePrefix)) {
    return InvalidArgument("resource '" + handle.name + "' of type '" + handle.type_name +
                           "' is no mxrec table: its handle must be that of a variable named '" +
                           std::string(kTablePrefix) +
                           "<table>'; pass the handle of a table made by create_table");
  }
  return handle.name.substr(kTablePrefix.size());
}

}  // namespace mxrec::tf
