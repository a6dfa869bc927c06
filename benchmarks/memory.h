// What the benchmarks know about memory: what the process holds, what the machine has left, and
// large zeroed buffers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mxrec::bench {

int64_t ResidentBytes();   // of this process, after free heap memory went back to the system
int64_t AvailableBytes();  // that the machine can still give (MemAvailable)

// Takes memory from the system, at most half of what is left, and gives it back. A virtual machine
// gets its memory when it touches it for the first time, in milliseconds for each huge page, and
// may give it up again while it is free: whatever grows first would pay for the host.
void TouchMemory(int64_t bytes);

// Zeroed memory from the system, on huge pages where there are any. Aborts when there is none.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  explicit HugeBuffer(size_t bytes);
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace mxrec::bench
