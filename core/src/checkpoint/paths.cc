#include "checkpoint/paths.h"

#include "checkpoint/format.h"

namespace mxrec::checkpoint {
namespace {

std::string BaseName(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::string JoinPath(const std::string& dir, const std::string& name) {
  return !dir.empty() && dir.back() == '/' ? dir + name : dir + "/" + name;
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<std::string> CheckpointPath(const std::string& dir) {
  std::string path = dir;
  while (!path.empty() && path.back() == '/') path.pop_back();
  const std::string base = BaseName(path);
  if (base.empty() || base == "." || base == ".." || dir.find('\0') != std::string::npos) {
    return InvalidArgument("dir is '" + dir +
                           "', which a checkpoint cannot replace; name a directory of its own, "
                           "like 'checkpoints/users'");
  }
  return path;
}

std::string AsidePath(const std::string& dir, const std::string& uid) {
  return dir + ".old-" + uid;
}

std::string TemporaryPath(const std::string& dir, const std::string& uid) {
  return dir + ".tmp-" + uid;
}

Result<std::vector<std::string>> ListAside(Env* env, const std::string& dir) {
  const std::string parent = ParentOf(dir);
  auto names = env->List(parent);
  if (!names.ok()) return names.status();
  const std::string prefix = AsidePath(BaseName(dir), "");
  std::vector<std::string> found;
  Uid uid;
  for (const std::string& name : names.value()) {
    if (name.starts_with(prefix) && FromHex(name.substr(prefix.size()), &uid)) {
      found.push_back(JoinPath(parent, name));
    }
  }
  return found;
}

std::string InterruptedSaveHint(Env* env, const std::string& dir) {
  const auto path = CheckpointPath(dir);
  if (!path.ok()) return "";
  const auto aside = ListAside(env, path.value());
  if (!aside.ok() || aside.value().empty()) return "";
  return "; an interrupted save left the checkpoint before it in " + aside.value().back() +
         ": rename that to " + path.value();
}

}  // namespace mxrec::checkpoint
