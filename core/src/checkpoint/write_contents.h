// What a checkpoint's directory holds, written from a snapshot.
#pragma once

#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/save.h"
#include "mxrec/snapshot.h"

namespace mxrec::checkpoint {

Result<Uid> DrawUid();

// Makes directory `dir` and fills it; the manifest comes last. Everything is synced, but for the
// directory's entry in its parent. On error files may be left.
Result<Manifest> WriteContents(Snapshot* snapshot, Env* env, const std::string& dir, const Uid& uid,
                               int64_t step, const SaveLimits& limits);

Status WithNote(const Status& status, const std::string& what, const Status& second);

}  // namespace mxrec::checkpoint
