// Checks that every op which reads rows makes of its inputs.
#pragma once

#include <string>

#include "kernel_context.h"
#include "mxrec/table.h"

namespace mxrec::tf {

// `like` has shape [0, dim]: what the op was built for.
inline Status CheckWidth(const Table& table, const Tensor& like) {
  MXREC_RETURN_IF_ERROR(CheckRank("like", like, 2));
  if (like.shape()[1] == table.dim()) return {};
  return InvalidArgument("table '" + table.name() + "' has dim " + std::to_string(table.dim()) +
                         ", this op was built for dim " + std::to_string(like.shape()[1]) +
                         ": build the graph after create_table");
}

// absent: [dim], or [0] for zeros.
inline Result<const float*> AbsentRow(const Tensor& absent, int dim) {
  if (absent.shape() == Shape{0}) return nullptr;
  MXREC_RETURN_IF_ERROR(CheckShape("absent", absent, {dim}));
  return absent.data<float>();
}

}  // namespace mxrec::tf
