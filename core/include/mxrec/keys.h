// KeySpan: the keys of a batch where the caller has them, int64 or int32, never copied.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <span>

namespace mxrec {

class KeySpan {
 public:
  KeySpan() = default;
  KeySpan(const int64_t* keys, size_t n) : keys_(keys), size_(n) {}
  KeySpan(const int32_t* keys, size_t n) : keys_(keys), size_(n), narrow_(true) {}
  // A vector, span or array of either type.
  template <std::ranges::contiguous_range Keys>
  requires std::same_as<std::ranges::range_value_t<Keys>, int64_t> ||
      std::same_as<std::ranges::range_value_t<Keys>, int32_t>
      KeySpan(const Keys& keys) : KeySpan(std::ranges::data(keys), std::ranges::size(keys)) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t operator[](size_t i) const {
    return narrow_ ? static_cast<const int32_t*>(keys_)[i] : static_cast<const int64_t*>(keys_)[i];
  }

  std::span<const std::byte> bytes() const {
    const size_t item = narrow_ ? sizeof(int32_t) : sizeof(int64_t);
    return {static_cast<const std::byte*>(keys_), size_ * item};
  }

  // Calls visit with the keys as a pointer of their own type: one branch a batch, for inner loops.
  template <class Visit>
  decltype(auto) Dispatch(Visit&& visit) const {
    return narrow_ ? visit(static_cast<const int32_t*>(keys_))
                   : visit(static_cast<const int64_t*>(keys_));
  }

 private:
  const void* keys_ = nullptr;
  size_t size_ = 0;
  bool narrow_ = false;
};

}  // namespace mxrec
