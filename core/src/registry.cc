#include <algorithm>
#include <map>

#include "mxrec/runtime.h"
#include "mxrec/table.h"
#include "util/mutex.h"
#include "util/worker_pool.h"

namespace mxrec {
namespace {

struct Registry {
  Mutex mu;
  std::map<std::string, std::shared_ptr<Table>> tables MXREC_GUARDED_BY(mu);
};

// Never destroyed: ops may run while the process exits.
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

}  // namespace

Status RegisterTable(const std::string& name, std::shared_ptr<Table> table) {
  if (table == nullptr) return InvalidArgument("table '" + name + "' to register is null");
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mu);
  if (!registry.tables.emplace(name, std::move(table)).second) {
    return AlreadyExists("a table named '" + name +
                         "' is registered; use another name or unregister it first");
  }
  return {};
}

std::shared_ptr<Table> FindTable(const std::string& name) {
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mu);
  const auto it = registry.tables.find(name);
  return it == registry.tables.end() ? nullptr : it->second;
}

bool UnregisterTable(const std::string& name) {
  std::shared_ptr<Table> released;  // destroyed behind the lock: a large table takes its time
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mu);
  const auto it = registry.tables.find(name);
  if (it == registry.tables.end()) return false;
  released = std::move(it->second);
  registry.tables.erase(it);
  return true;
}

std::vector<std::string> RegisteredTables() {
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mu);
  std::vector<std::string> names;
  for (const auto& [name, table] : registry.tables) names.push_back(name);
  return names;
}

Status SetNumThreads(int n) {
  if (n < 1 || n > 1024) {
    return InvalidArgument("num_threads is " + std::to_string(n) + "; it must be in [1, 1024]");
  }
  WorkerPool::Get().SetNumThreads(n);
  return {};
}

int NumThreads() { return WorkerPool::Get().num_threads(); }

void SetThreadBinding(bool bound) { WorkerPool::Get().Bind(bound); }

void EndThreads() { WorkerPool::Get().EndWorkers(); }

bool ThreadBinding() { return WorkerPool::Get().bound(); }

void RunParallel(size_t tasks, const std::function<void(size_t)>& task) {
  WorkerPool::Get().Run(tasks, task);
}

const char* Version() { return MXREC_VERSION; }

}  // namespace mxrec
