#include "served_tables.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <utility>

#include "kernel_context.h"
#include "mxrec/checkpoint.h"
#include "util/mutex.h"

namespace mxrec::tf {
namespace {

struct Registry {
  Mutex mu;
  std::map<std::string, std::weak_ptr<Table>> tables MXREC_GUARDED_BY(mu);  // by uid
};

Registry& TheRegistry() {
  static auto* registry = new Registry;  // kernels may outlive static objects
  return *registry;
}

std::string_view Parent(std::string_view path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

// TensorFlow's TF_TString: 24 bytes whose lowest two bits say how they hold the string.
constexpr size_t kStringBytes = 24;
enum StringKind : uint8_t { kSmall = 0, kLarge = 1, kOffset = 2, kView = 3 };

std::string Decode(const char* raw) {
  uint64_t word = 0;
  std::memcpy(&word, raw, sizeof(word));
  const auto pointer_at = [&](size_t offset) {
    const char* pointer = nullptr;
    std::memcpy(&pointer, raw + offset, sizeof(pointer));
    return pointer;
  };
  switch (word & 3) {
    case kSmall:
      return {raw + 1, size_t{static_cast<uint8_t>(raw[0])} >> 2};
    case kLarge:  // size, capacity, pointer
      return {pointer_at(16), word >> 2};
    case kOffset: {  // 32 bits each of size and of the distance from here
      uint32_t size = 0;
      uint32_t offset = 0;
      std::memcpy(&size, raw, sizeof(size));
      std::memcpy(&offset, raw + 4, sizeof(offset));
      return {raw + offset, size >> 2};
    }
    default:  // size, pointer
      return {pointer_at(8), word >> 2};
  }
}

}  // namespace

Result<std::shared_ptr<Table>> ServedTable(const std::string& directory, const std::string& uid) {
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mu);
  std::weak_ptr<Table>& known = registry.tables[uid];
  if (auto table = known.lock()) return table;
  MXREC_ASSIGN_OR_RETURN(const CheckpointInfo info, ReadCheckpointInfo(directory));
  if (info.uid != uid) {
    return FailedPrecondition("the model was exported with table " + uid + ", but " + directory +
                              " holds " + info.uid + ": copy the whole exported model anew");
  }
  MXREC_ASSIGN_OR_RETURN(auto table, LoadTable(directory));
  known = table;
  return table;
}

std::string InModelOf(std::string_view asset, const std::string& path) {
  const std::string_view model = Parent(Parent(asset));
  return model.empty() ? path : std::string(model) + "/" + path;
}

Result<std::string> StringScalar(const char* input, const Tensor& tensor) {
  static_assert(sizeof(void*) == 8 && kStringBytes == 24);
  MXREC_RETURN_IF_ERROR(CheckRank(input, tensor, 0));
  return Decode(tensor.data<const char>());
}

}  // namespace mxrec::tf
