// Tensor: owns a TF_Tensor that a kernel reads or fills.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tf_c_abi.h"

namespace mxrec::tf {

using Shape = std::vector<int64_t>;

// "[2, 3]"
std::string ToString(const Shape& shape);

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr TF_DataType value = TF_FLOAT;
};
template <>
struct TypeOf<int32_t> {
  static constexpr TF_DataType value = TF_INT32;
};
template <>
struct TypeOf<int64_t> {
  static constexpr TF_DataType value = TF_INT64;
};

class Tensor {
 public:
  explicit Tensor(TF_Tensor* raw) : raw_(raw) {
    for (int i = 0; i < TF_NumDims(raw_); ++i) {
      shape_.push_back(TF_Dim(raw_, i));
      size_ *= static_cast<size_t>(shape_.back());
    }
  }
  Tensor(Tensor&& other) noexcept
      : raw_(std::exchange(other.raw_, nullptr)),
        shape_(std::move(other.shape_)),
        size_(other.size_) {}
  Tensor& operator=(Tensor&&) = delete;
  ~Tensor() {
    if (raw_ != nullptr) TF_DeleteTensor(raw_);
  }

  const TF_Tensor* raw() const { return raw_; }
  TF_DataType type() const { return TF_TensorType(raw_); }
  const Shape& shape() const { return shape_; }
  size_t rank() const { return shape_.size(); }
  size_t size() const { return size_; }  // elements
  // The caller knows the element type: from the op's definition, or from type().
  template <class T>
  T* data() const {
    return static_cast<T*>(TF_TensorData(raw_));
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), size_};
  }

 private:
  TF_Tensor* raw_;
  Shape shape_;
  size_t size_ = 1;
};

}  // namespace mxrec::tf
