#include "env/posix_error.h"

#include <cerrno>
#include <system_error>
#include <utility>

namespace mxrec {

Status FromErrno(const char* action, const std::string& path, int error) {
  std::string message =
      std::string("cannot ") + action + " " + path + ": " + std::generic_category().message(error);
  switch (error) {
    case ENOENT:
      return NotFound(std::move(message));
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(message + "; free space on that file system");
    case ENOMEM:
      return ResourceExhausted(std::move(message));
    case EMFILE:
      return IoError(message + "; raise this process's limit (ulimit -n)");
    default:
      return IoError(std::move(message));
  }
}

}  // namespace mxrec
