#include "closed_tables.h"

#include <cstdio>
#include <set>

#include "util/mutex.h"

namespace mxrec::tf {

namespace {

struct Warned {
  Mutex mu;
  // By the table itself: another one may get its name.
  std::set<std::weak_ptr<Table>, std::owner_less<>> tables MXREC_GUARDED_BY(mu);
};

}  // namespace

void WarnOfClosedTable(const std::shared_ptr<Table>& table) {
  static auto* warned = new Warned;  // kernels may outlive static objects
  const MutexLock lock(warned->mu);
  if (!warned->tables.insert(table).second) return;
  std::fprintf(stderr,
               "mxrec: table '%s' is trained with access_threshold=0, and no counts were restored: "
               "no key is admitted. Restore a checkpoint, or set a threshold above 0.\n",
               table->name().c_str());
}

}  // namespace mxrec::tf
