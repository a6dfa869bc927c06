// A table whose threshold of admission is 0 gives no key a row until a restore brings counts.
// Whoever trains it without a restore has most likely forgotten it.
#pragma once

#include <memory>

#include "mxrec/table.h"

namespace mxrec::tf {

// Says so on stderr, once for each table.
void WarnOfClosedTable(const std::shared_ptr<Table>& table);

}  // namespace mxrec::tf
