// Protocol buffers' wire format, as far as TensorFlow's messages that the ops meet use it; linking
// protobuf's C++ library would tie the binary to one TensorFlow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mxrec::tf {

struct WireField {
  uint64_t number = 0;
  uint64_t value = 0;      // of a varint
  std::string_view bytes;  // of a length-delimited field
  std::string_view raw;    // tag and payload, to be copied as they are
};

// Reads the fields of one message in order. The message outlives the reader.
class WireReader {
 public:
  explicit WireReader(std::string_view message) : rest_(message) {}
  // The next field; none at the end, and where the message is damaged.
  std::optional<WireField> Next();
  bool failed() const { return failed_; }

 private:
  std::string_view rest_;
  bool failed_ = false;
};

void AppendVarint(uint64_t value, std::string* out);
void AppendVarintField(uint64_t number, uint64_t value, std::string* out);
void AppendBytesField(uint64_t number, std::string_view bytes, std::string* out);
// A packed repeated field of varints; negative values as protobuf's int64 has them.
void AppendPackedField(uint64_t number, const std::vector<int64_t>& values, std::string* out);

}  // namespace mxrec::tf
