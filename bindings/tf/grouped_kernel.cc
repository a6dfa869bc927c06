#include "grouped_kernel.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "mxrec/runtime.h"
#include "op_registration.h"

namespace mxrec::tf {
namespace {

struct TableMembers {
  std::shared_ptr<Table> table;
  std::vector<int> members;
};

Status NameTable(const Status& status, const std::string& table) {
  if (status.message().find('\'' + table + '\'') != std::string::npos) return status;
  return {status.code(), "table '" + table + "': " + status.message()};
}

}  // namespace

Status ComputeMembers(const KernelContext& context, int members,
                      const std::function<Status(int, const KernelContext&)>& compute) {
  std::mutex mu;
  std::vector<TableMembers> tables;
  for (int i = 0; i < members; ++i) {
    MXREC_ASSIGN_OR_RETURN(auto table, context.Of({i, members}, &mu).InputTable(0));
    const auto same = std::find_if(tables.begin(), tables.end(),
                                   [&](const TableMembers& t) { return t.table == table; });
    if (same == tables.end()) {
      tables.push_back({std::move(table), {i}});
    } else {
      same->members.push_back(i);
    }
  }
  std::vector<Status> results(static_cast<size_t>(members));
  RunParallel(tables.size(), [&](size_t t) {
    for (const int i : tables[t].members) {
      Status& result = results[static_cast<size_t>(i)];
      result = CatchAll([&] { return compute(i, context.Of({i, members}, &mu)); });
      if (!result.ok()) {
        result = NameTable(result, tables[t].table->name());
        return;
      }
    }
  });
  for (const Status& result : results) MXREC_RETURN_IF_ERROR(result);
  return {};
}

}  // namespace mxrec::tf
