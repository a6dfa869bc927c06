// One function per file of ops; register_ops.cc calls them when the library is loaded.
#pragma once

namespace mxrec::tf {

void RegisterLookupOps();
void RegisterRowOps();
void RegisterPoolingOps();
void RegisterApplyOps();
void RegisterTableOps();
void RegisterServedOps();

}  // namespace mxrec::tf
