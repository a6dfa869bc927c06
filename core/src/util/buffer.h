// Buffer: an array that grows without copying or initialising, for scratch that is reused.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace mxrec {

template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // Room for n elements; the contents are undefined.
  void Reserve(size_t n) {
    if (n <= capacity_) return;
    const size_t wanted = n + n / 4;
    data_.reset();
    data_ = std::make_unique_for_overwrite<T[]>(wanted);
    capacity_ = wanted;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t capacity_bytes() const { return capacity_ * sizeof(T); }

 private:
  std::unique_ptr<T[]> data_;
  size_t capacity_ = 0;
};

}  // namespace mxrec
