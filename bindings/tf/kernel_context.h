// What a kernel sees of one call and of its node: inputs, outputs, attributes, its table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "member.h"
#include "mxrec/status.h"
#include "mxrec/table.h"
#include "tensor.h"
#include "tf_c_abi.h"
#include "tf_status.h"
#include "util/mutex.h"

namespace mxrec::tf {

// Attributes of a node, read once when its kernel is built.
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* raw) : raw_(raw) {}
  // What a member of the group sees.
  Attributes Of(Member member) const { return Attributes(raw_, member); }

  Result<int64_t> Int(const char* name) const;
  Result<std::string> String(const char* name) const;  // a list, or one for all members

 private:
  Attributes(TF_OpKernelConstruction* raw, Member member)
      : raw_(raw), grouped_(true), member_(member) {}

  // kInvalidArgument unless a list of this size has an element for each member.
  Status CheckListSize(const char* name, int32_t size) const;

  TF_OpKernelConstruction* raw_;
  bool grouped_ = false;
  Member member_;
};

class KernelContext {
 public:
  explicit KernelContext(TF_OpKernelContext* raw) : raw_(raw) {}
  // What a member of the group sees. Contexts that share a mutex may be used from several threads.
  // The pointer alone is copied, which needs no lock.
  KernelContext Of(Member member, Mutex* mu) const MXREC_NO_THREAD_SAFETY_ANALYSIS {
    return KernelContext(raw_, member, mu);
  }
  // Input 0 is this table: the handle is not read again.
  void SetTable(std::shared_ptr<Table> table) { table_ = std::move(table); }

  Result<Tensor> Input(int index) const;
  // The table that a resource input names. kNotFound if this process has none of that name.
  Result<std::shared_ptr<Table>> InputTable(int index) const;

  // Output `output` is input `input`, not copied.
  Status Forward(int input, int output) const;

  template <class T>
  Result<Tensor> Output(int index, const Shape& shape) const {
    return Allocate(index, TypeOf<T>::value, shape, sizeof(T));
  }

 private:
  KernelContext(TF_OpKernelContext* raw, Member member, Mutex* mu)
      : raw_(raw), member_(member), mu_(mu) {}
  Result<Tensor> Allocate(int index, TF_DataType type, const Shape& shape, size_t item) const;

  // Holds the mutex that contexts share. The analysis does not follow that a context which is the
  // only one has none: to it, the mutex is held.
  class MXREC_SCOPED_CAPABILITY Turn {
   public:
    explicit Turn(Mutex* mu) MXREC_ACQUIRE(mu) MXREC_NO_THREAD_SAFETY_ANALYSIS : mu_(mu) {
      if (mu_ != nullptr) mu_->lock();
    }
    ~Turn() MXREC_RELEASE() MXREC_NO_THREAD_SAFETY_ANALYSIS {
      if (mu_ != nullptr) mu_->unlock();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Mutex* const mu_;
  };

  TF_OpKernelContext* raw_ MXREC_GUARDED_BY(mu_);
  Member member_;
  Mutex* mu_ = nullptr;  // TensorFlow's context is for one thread at a time
  std::shared_ptr<Table> table_;
};

// The keys of an input of type int64 or int32, read in place.
class KeyBatch {
 public:
  static Result<KeyBatch> FromInput(const KernelContext& context, int index);

  KeySpan keys() const {
    if (tensor_.type() == TF_INT32) return {tensor_.data<int32_t>(), tensor_.size()};
    return {tensor_.data<int64_t>(), tensor_.size()};
  }
  size_t size() const { return tensor_.size(); }
  const Shape& shape() const { return tensor_.shape(); }

 private:
  explicit KeyBatch(Tensor tensor) : tensor_(std::move(tensor)) {}
  Tensor tensor_;
};

// `shape` with one more axis, of length `last`.
Shape Append(Shape shape, int64_t last);

// Checks of an input's shape; the error names the input, what came and what is wanted.
Status CheckRank(const char* input, const Tensor& tensor, size_t rank);
Status CheckShape(const char* input, const Tensor& tensor, const Shape& wanted);
// Every index of `inverse` (int32) must be below `rows`.
Status CheckInverse(const Tensor& inverse, int64_t rows);

}  // namespace mxrec::tf
