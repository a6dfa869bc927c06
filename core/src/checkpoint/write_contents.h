// What a checkpoint's directory holds, written from a snapshot.
#pragma once

#include <string>

#include "checkpoint/manifest.h"
#include "checkpoint/save.h"
#include "mxrec/checkpoint.h"

namespace mxrec::checkpoint {

Result<Uid> DrawUid();

// Makes directory `dir` and fills it; the manifest comes last. Everything is synced, but for the
// directory's entry in its parent. On error files may be left.
Result<Manifest> WriteContents(Snapshot* snapshot, Env* env, const std::string& dir, const Uid& uid,
                               int64_t step, const SaveLimits& limits);

// Removes what a save has left in `dir` that failed with `status`; returns that, and why it could
// not.
Status Abandon(Env* env, const std::string& dir, const Status& status);
// `status`, and moreover what came of it.
Status WithNote(const Status& status, const std::string& what, const Status& second);

}  // namespace mxrec::checkpoint
