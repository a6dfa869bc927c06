#include "resource_handle.h"

#include <cstdint>

#include "wire_format.h"

namespace mxrec::tf {
namespace {

// Field numbers in tensorflow/core/framework/resource_handle.proto.
constexpr uint64_t kNameField = 3;
constexpr uint64_t kTypeNameField = 5;

}  // namespace

Result<ResourceHandle> ParseResourceHandle(std::string_view proto) {
  ResourceHandle handle;
  WireReader fields(proto);
  while (const auto field = fields.Next()) {
    if (field->number == kNameField) handle.name = field->bytes;
    if (field->number == kTypeNameField) handle.type_name = field->bytes;
  }
  if (fields.failed()) {
    return InvalidArgument(
        "the resource handle is no valid ResourceHandleProto: make the handle with "
        "mxrec.tf.create_table");
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
