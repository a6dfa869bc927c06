// What a process has once: its named tables and its worker threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mxrec/status.h"

namespace mxrec {

class Table;

// --- Registry: how TensorFlow ops find a table by the name that their resource handle carries.
MXREC_API Status RegisterTable(const std::string& name, std::shared_ptr<Table> table);
MXREC_API std::shared_ptr<Table> FindTable(const std::string& name);  // null: none
MXREC_API bool UnregisterTable(const std::string& name);              // false: there was none
MXREC_API std::vector<std::string> RegisteredTables();                // sorted

// --- Worker pool. The calling thread works too: n = 1 means no extra threads.
MXREC_API Status SetNumThreads(int n);  // [1, 1024]
MXREC_API int NumThreads();             // default: the processors this process may use
// Binds the worker threads to one processor each (sched_setaffinity), or unbinds them. With fewer
// than four processors a bound worker moves out of the way of a thread that brings work.
MXREC_API void SetThreadBinding(bool bound);
MXREC_API bool ThreadBinding();  // default: false
// Ends the worker threads; the next call that wants them starts new ones.
MXREC_API void EndThreads();
// Calls task(i) once for every i in [0, tasks) and returns when all have finished. Tasks may run at
// the same time, do not throw, and may call tables, whose own work then shares the same threads.
MXREC_API void RunParallel(size_t tasks, const std::function<void(size_t)>& task);

// --- Gather mode of all lookups of the process; both give the same bits.
enum class GatherMode : uint8_t {
  kHighPerformance,  // vector kernels, prefetch, streaming stores for outputs beyond the caches
  kHighPrecision,    // plain loops
};
MXREC_API void SetGatherMode(GatherMode mode);          // batches that have begun keep theirs
MXREC_API GatherMode GetGatherMode();                   // default: kHighPerformance
MXREC_API const char* GatherModeName(GatherMode mode);  // "high_performance", "high_precision"

MXREC_API const char* Version();  // "MAJOR.MINOR.PATCH", of the CMake project

}  // namespace mxrec
