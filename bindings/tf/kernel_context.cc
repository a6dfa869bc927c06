#include "kernel_context.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "mxrec/runtime.h"
#include "resource_handle.h"

namespace mxrec::tf {
namespace {

// Releases what TensorFlow put into a TF_Buffer.
struct Buffer {
  TF_Buffer raw{nullptr, 0, nullptr};
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (raw.data_deallocator != nullptr) {
      raw.data_deallocator(const_cast<void*>(raw.data), raw.length);
    }
  }
  std::string_view bytes() const { return {static_cast<const char*>(raw.data), raw.length}; }
};

}  // namespace

Result<int64_t> Attributes::Int(const char* name) const {
  TfStatus status;
  int64_t value = 0;
  if (!grouped_) {
    TF_OpKernelConstruction_GetAttrInt64(raw_, name, &value, status.get());
    if (!status.ok()) return status.status();
    return value;
  }
  int32_t size = 0;
  int32_t bytes = 0;
  TF_OpKernelConstruction_GetAttrSize(raw_, name, &size, &bytes, status.get());
  if (!status.ok()) return status.status();
  MXREC_RETURN_IF_ERROR(CheckListSize(name, size));
  std::vector<int64_t> values(static_cast<size_t>(size));
  TF_OpKernelConstruction_GetAttrInt64List(raw_, name, values.data(), size, status.get());
  if (!status.ok()) return status.status();
  return values[static_cast<size_t>(member_.index)];
}

Result<std::string> Attributes::String(const char* name) const {
  TfStatus status;
  int32_t list_size = 0;
  int32_t length = 0;  // of all elements together
  TF_OpKernelConstruction_GetAttrSize(raw_, name, &list_size, &length, status.get());
  if (!status.ok()) return status.status();
  std::string storage(static_cast<size_t>(length), '\0');
  if (list_size < 0) {  // no list
    TF_OpKernelConstruction_GetAttrString(raw_, name, storage.data(), storage.size(), status.get());
    if (!status.ok()) return status.status();
    return storage;
  }
  MXREC_RETURN_IF_ERROR(CheckListSize(name, list_size));
  std::vector<char*> values(static_cast<size_t>(list_size));
  std::vector<size_t> lengths(values.size());
  TF_OpKernelConstruction_GetAttrStringList(raw_, name, values.data(), lengths.data(), list_size,
                                            storage.data(), storage.size(), status.get());
  if (!status.ok()) return status.status();
  const auto index = static_cast<size_t>(member_.index);
  return std::string(values[index], lengths[index]);
}

Status Attributes::CheckListSize(const char* name, int32_t size) const {
  if (size == member_.count) return {};
  return InvalidArgument(std::string(name) + " has " + std::to_string(size) +
                         " elements, wanted one for each of " + std::to_string(member_.count) +
                         " tables");
}

Result<Tensor> KernelContext::Input(int index) const {
  TfStatus status;
  TF_Tensor* raw = nullptr;
  const Turn turn(mu_);
  TF_GetInput(raw_, member_.at(index), &raw, status.get());
  if (!status.ok()) return status.status();
  return Tensor(raw);
}

Status KernelContext::Forward(int input, int output) const {
  MXREC_ASSIGN_OR_RETURN(const Tensor tensor, Input(input));
  TfStatus status;
  const Turn turn(mu_);
  TF_SetOutput(raw_, member_.at(output), tensor.raw(), status.get());
  return status.ok() ? Status() : status.status();
}

Result<std::shared_ptr<Table>> KernelContext::InputTable(int index) const {
  if (index == 0 && table_ != nullptr) return table_;
  TfStatus status;
  Buffer proto;
  {
    const Turn turn(mu_);
    TF_GetSerializedResourceHandleProto(raw_, member_.at(index), &proto.raw, status.get());
  }
  if (!status.ok()) return status.status();
  MXREC_ASSIGN_OR_RETURN(const ResourceHandle handle, ParseResourceHandle(proto.bytes()));
  MXREC_ASSIGN_OR_RETURN(const std::string name, TableName(handle));
  auto table = FindTable(name);
  if (table == nullptr) {
    return NotFound("table '" + name +
                    "' does not exist in the process that runs this op: a table lives from "
                    "create_table to terminate; create it before the op runs (for a parameter "
                    "server by create_table in its own process)");
  }
  return table;
}

Result<Tensor> KernelContext::Allocate(int index, TF_DataType type, const Shape& shape,
                                       size_t item) const {
  size_t bytes = item;
  for (const int64_t dim : shape) bytes *= static_cast<size_t>(dim);
  TfStatus status;
  const Turn turn(mu_);
  TF_Tensor* raw = TF_AllocateOutput(raw_, member_.at(index), type, shape.data(),
                                     static_cast<int>(shape.size()), bytes, status.get());
  if (!status.ok()) return status.status();
  return Tensor(raw);
}

Result<KeyBatch> KeyBatch::FromInput(const KernelContext& context, int index) {
  MXREC_ASSIGN_OR_RETURN(Tensor tensor, context.Input(index));
  constexpr auto kMaxKeys = static_cast<size_t>(std::numeric_limits<int32_t>::max());
  if (tensor.size() > kMaxKeys) {  // positions in a batch are int32
    return InvalidArgument("ids holds " + std::to_string(tensor.size()) + " keys, at most " +
                           std::to_string(kMaxKeys) + " are allowed: split the batch");
  }
  return KeyBatch(std::move(tensor));
}

Shape Append(Shape shape, int64_t last) {
  shape.push_back(last);
  return shape;
}

Status CheckRank(const char* input, const Tensor& tensor, size_t rank) {
  if (tensor.rank() == rank) return {};
  return InvalidArgument(std::string(input) + " has shape " + ToString(tensor.shape()) +
                         ", wanted rank " + std::to_string(rank));
}

Status CheckShape(const char* input, const Tensor& tensor, const Shape& wanted) {
  if (tensor.shape() == wanted) return {};
  return InvalidArgument(std::string(input) + " has shape " + ToString(tensor.shape()) +
                         ", wanted " + ToString(wanted));
}

Status CheckInverse(const Tensor& inverse, int64_t rows) {
  const auto indices = inverse.span<const int32_t>();
  int32_t largest = -1;  // without a branch, so that the compiler takes several at once
  for (const int32_t index : indices) largest = std::max(largest, index);
  if (largest < rows) return {};
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= rows) {
      return InvalidArgument("inverse[" + std::to_string(i) + "] is " + std::to_string(indices[i]) +
                             ", there are " + std::to_string(rows) +
                             " rows: rows and inverse must come from one lookup");
    }
  }
  return {};
}

}  // namespace mxrec::tf
