// Reading the parts of a checkpoint.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/data_part.h"
#include "checkpoint/format.h"
#include "checkpoint/manifest.h"
#include "env/env.h"
#include "mxrec/table_types.h"

namespace mxrec::checkpoint {

// Gives every block of the parts of one kind in `dir` to `add`. An error of `add` comes back with
// the place of its block.
Status ReadParts(Env* env, const std::string& dir, const Uid& uid, PartKind kind,
                 const RowLayout& layout, const std::vector<PartInfo>& parts,
                 const std::function<Status(const RowBlock&)>& add);

// The same with all rows of a checkpoint or delta, those in segments included.
Status ReadRows(Env* env, const std::string& dir, const Uid& uid, const Manifest& manifest,
                const std::function<Status(const RowBlock&)>& add);

}  // namespace mxrec::checkpoint
