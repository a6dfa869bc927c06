// Names of the directories beside a checkpoint.
#pragma once

#include <string>

#include "env/env.h"

namespace mxrec::checkpoint {

std::string JoinPath(const std::string& dir, const std::string& name);
// "a/b" of "a/b/c", "." of "c", "/" of "/c".
std::string ParentOf(const std::string& path);
// `dir` without slashes at its end. kInvalidArgument when it names no directory of its own, like
// "", "/", "." and "..".
Result<std::string> CheckpointPath(const std::string& dir);
// Where a save that replaces `dir` keeps the old checkpoint meanwhile: <dir>.old-<uid>.
std::string AsidePath(const std::string& dir, const std::string& uid);
std::string TemporaryPath(const std::string& dir, const std::string& uid);
// Paths of all directories that AsidePath could have named.
Result<std::vector<std::string>> ListAside(Env* env, const std::string& dir);
// For messages: "; an interrupted save left ..." when an old checkpoint of `dir` stands aside.
std::string InterruptedSaveHint(Env* env, const std::string& dir);

}  // namespace mxrec::checkpoint
