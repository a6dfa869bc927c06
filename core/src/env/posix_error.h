// How the operating system's errors become a Status.
#pragma once

#include <string>

#include "mxrec/status.h"

namespace mxrec {

// "cannot <action> <path>: <the system's reason>".
Status FromErrno(const char* action, const std::string& path, int error);

}  // namespace mxrec
