#include "closed_tables.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace mxrec::tf {

void WarnOfClosedTable(const std::shared_ptr<Table>& table) {
  static std::mutex mu;
  // By the table itself: another one may get its name.
  static auto* warned = new std::set<std::weak_ptr<Table>, std::owner_less<>>;
  const std::lock_guard lock(mu);
  if (!warned->insert(table).second) return;
  std::fprintf(stderr,
               "mxrec: table '%s' is trained with access_threshold=0, and no counts were restored: "
               "no key is admitted. Restore a checkpoint, or set a threshold above 0.\n",
               table->name().c_str());
}

}  // namespace mxrec::tf
