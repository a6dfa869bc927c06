// ScratchPool: objects whose arrays are worth keeping from call to call. Acquire takes one that a
// finished call has left, or a new one.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "util/mutex.h"

namespace mxrec {

// T has size_t kept_bytes() const, the memory that it would keep.
template <class T>
class ScratchPool {
 public:
  struct Release {
    void operator()(T* scratch) const { Get().Put(std::unique_ptr<T>(scratch)); }
  };
  using Ptr = std::unique_ptr<T, Release>;

  static Ptr Acquire() {
    ScratchPool& pool = Get();
    const MutexLock lock(pool.mu_);
    if (pool.free_.empty()) return Ptr(new T);
    Ptr scratch(pool.free_.back().release());
    pool.free_.pop_back();
    return scratch;
  }

 private:
  static constexpr size_t kKept = 16;
  static constexpr size_t kKeptBytes = size_t{32} << 20;  // larger scratch is given back

  static ScratchPool& Get() {
    static ScratchPool* pool = new ScratchPool;
    return *pool;
  }
  ScratchPool() { free_.reserve(kKept); }
  void Put(std::unique_ptr<T> scratch) {
    if (scratch->kept_bytes() > kKeptBytes) return;
    const MutexLock lock(mu_);
    if (free_.size() < kKept) free_.push_back(std::move(scratch));
  }

  Mutex mu_;
  std::vector<std::unique_ptr<T>> free_ MXREC_GUARDED_BY(mu_);
};

}  // namespace mxrec
