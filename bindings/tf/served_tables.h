// Tables of exported models: loaded from a directory, read only, shared by the kernels that read
// them, and gone with the last of these.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "mxrec/status.h"
#include "mxrec/table.h"
#include "tensor.h"

namespace mxrec::tf {

// The table that was saved in `directory`. One that this process holds already is not loaded again;
// `uid` tells tables apart and must be that of the directory (kFailedPrecondition otherwise).
// Thread-safe; callers that want a table at the same time wait for one load.
Result<std::shared_ptr<Table>> ServedTable(const std::string& directory, const std::string& uid);

// `path` relative to the model that `asset` is an asset file of: <model>/assets/<file>.
std::string InModelOf(std::string_view asset, const std::string& path);

// The only element of a string tensor; kInvalidArgument unless it has shape [].
Result<std::string> StringScalar(const char* input, const Tensor& tensor);

}  // namespace mxrec::tf
