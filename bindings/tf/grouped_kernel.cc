#include "grouped_kernel.h"

#include <algorithm>
#include <string>
#include <utility>

#include "mxrec/runtime.h"
#include "op_registration.h"

namespace mxrec::tf {
namespace {

struct TableMembers {
  std::shared_ptr<Table> table;
  std::vector<std::pair<int, KernelContext>> members;
};

Status NameTable(const Status& status, const std::string& table) {
  if (status.message().find('\'' + table + '\'') != std::string::npos) return status;
  return {status.code(), "table '" + table + "': " + status.message()};
}

Status FirstError(const std::vector<Status>& results) {
  for (const Status& result : results) MXREC_RETURN_IF_ERROR(result);
  return {};
}

}  // namespace

Status ComputeMembers(const KernelContext& context, int members, const ComputeMember& compute) {
  Mutex mu;
  std::vector<TableMembers> tables;
  for (int i = 0; i < members; ++i) {
    KernelContext member = context.Of({i, members}, &mu);
    MXREC_ASSIGN_OR_RETURN(const auto table, member.InputTable(0));
    member.SetTable(table);
    auto same = std::find_if(tables.begin(), tables.end(),
                             [&](const TableMembers& t) { return t.table == table; });
    if (same == tables.end()) same = tables.insert(tables.end(), {table, {}});
    same->members.emplace_back(i, std::move(member));
  }
  std::vector<Status> results(static_cast<size_t>(members));
  RunParallel(tables.size(), [&](size_t t) {
    for (const auto& [i, member] : tables[t].members) {
      Status& result = results[static_cast<size_t>(i)];
      result = CatchAll([&] { return compute(i, member); });
      if (!result.ok()) {
        result = NameTable(result, tables[t].table->name());
        return;
      }
    }
  });
  return FirstError(results);
}

Status ComputeNamedMembers(const KernelContext& context, const std::vector<std::string>& names,
                           const ComputeMember& compute) {
  Mutex mu;
  std::vector<Status> results(names.size());
  RunParallel(names.size(), [&](size_t i) {
    const Member place{static_cast<int>(i), static_cast<int>(names.size())};
    const Status result = CatchAll([&] { return compute(place.index, context.Of(place, &mu)); });
    if (!result.ok()) results[i] = {result.code(), "'" + names[i] + "': " + result.message()};
  });
  return FirstError(results);
}

}  // namespace mxrec::tf
