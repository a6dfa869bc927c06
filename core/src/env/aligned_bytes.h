// AlignedBytes: memory at a block boundary, as direct I/O wants it.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "env/direct_file.h"

namespace mxrec {

// Zeroed unless it is only lent to reads and writes. bytes: a multiple of kBlockBytes.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes, bool zeroed = true)
      : data_(static_cast<char*>(std::aligned_alloc(kBlockBytes, bytes))) {
    if (data_ == nullptr) throw std::bad_alloc();
    if (zeroed) std::memset(data_.get(), 0, bytes);
  }
  char* get() const { return data_.get(); }

 private:
  struct Freer {
    void operator()(char* data) const { std::free(data); }
  };
  std::unique_ptr<char, Freer> data_;
};

}  // namespace mxrec
