// The name inside a resource handle, read without TensorFlow's or protobuf's C++ libraries.
#pragma once

#include <string>
#include <string_view>

#include "mxrec/status.h"

namespace mxrec::tf {

// What prefixes a table's name in the shared_name of its handle, so that a dense variable of the
// same name is another resource.
inline constexpr std::string_view kTablePrefix = "mxrec/";

// The fields of tensorflow.ResourceHandleProto that identify a resource.
struct ResourceHandle {
  std::string name;
  std::string type_name;
};

// Parses the wire format. Unknown fields are skipped; damaged bytes are kInvalidArgument.
Result<ResourceHandle> ParseResourceHandle(std::string_view proto);

// The name of the table that the handle addresses; kInvalidArgument, naming the handle, if it
// addresses something else.
Result<std::string> TableName(const ResourceHandle& handle);

}  // namespace mxrec::tf
