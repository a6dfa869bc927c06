// What a process has once: its named tables, its worker threads, and the kernels that they run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mxrec/status.h"
#include "mxrec/table_types.h"

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

// --- Row kernels: what the TensorFlow ops and the tables share. Vector versions are chosen at run
// time and equal the scalar reference bit for bit; results do not depend on the number of threads.
namespace kernels {

// out[i] = rows[inverse[i]]. rows: [u, dim], out: [n, dim]; a negative index reads zeros.
MXREC_API void GatherRows(const float* rows, const int32_t* inverse, size_t n, int dim, float* out);
// out[j] = sum of values[i] over i with inverse[i] == j, in ascending i; 0 where there is none.
// values: [n, dim], out: [u, dim]; indices outside [0, u) are ignored.
MXREC_API void SegmentSum(const float* values, const int32_t* inverse, size_t n, size_t u, int dim,
                          float* out);
// Index of the first NaN or infinity in values [n]; n when there is none.
MXREC_API size_t FirstNonFinite(const float* values, size_t n);
// The instruction set in use: "AVX2", "NEON", ...
MXREC_API const char* Target();
// Outputs of so many bytes and more go past the caches: half of the last-level cache.
MXREC_API size_t StreamingThresholdBytes();

// Of pooled lookups. Sums run in ascending order of the occurrences, one after the other, in float.
// Bags are valid. inverse: [n], the row of each occurrence, below the number of rows; a negative
// index stands for a row of zeros.

// out[b] = sum of weights[i] * rows[inverse[i]] over bag b / divisor of b.
// rows: [u, dim], out: [bags, dim].
MXREC_API void PoolRows(const float* rows, const int32_t* inverse, const Bags& bags, int dim,
                        float* out);
// Gradient of PoolRows with respect to rows: out[j] = sum of weights[i] / divisor of i's bag *
// grads[i's bag] over i with inverse[i] == j. grads: [bags, dim], out: [u, dim].
MXREC_API void PooledSegmentSum(const float* grads, const int32_t* inverse, const Bags& bags,
                                size_t u, int dim, float* out);
// Gradient of PoolRows with respect to weights. out: [n].
MXREC_API void PooledWeightGradients(const float* rows, const int32_t* inverse, const Bags& bags,
                                     const float* grads, int dim, float* out);

}  // namespace kernels

}  // namespace mxrec
