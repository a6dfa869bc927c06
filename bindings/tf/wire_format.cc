#include "wire_format.h"

namespace mxrec::tf {
namespace {

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

std::optional<uint64_t> ReadVarint(std::string_view* in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(in->front());
    in->remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

std::optional<std::string_view> ReadBytes(std::string_view* in, uint64_t length) {
  if (length > in->size()) return std::nullopt;
  const std::string_view bytes = in->substr(0, length);
  in->remove_prefix(length);
  return bytes;
}

// Reads the payload into *field; false: damaged.
bool ReadPayload(std::string_view* in, uint64_t wire_type, WireField* field) {
  if (wire_type == kFixed64) return ReadBytes(in, 8).has_value();
  if (wire_type == kFixed32) return ReadBytes(in, 4).has_value();
  if (wire_type != kVarint && wire_type != kLengthDelimited) return false;
  const auto value = ReadVarint(in);
  if (!value) return false;
  if (wire_type == kVarint) {
    field->value = *value;
    return true;
  }
  const auto bytes = ReadBytes(in, *value);
  if (bytes) field->bytes = *bytes;
  return bytes.has_value();
}

}  // namespace

std::optional<WireField> WireReader::Next() {
  if (rest_.empty() || failed_) return std::nullopt;
  const std::string_view start = rest_;
  const auto tag = ReadVarint(&rest_);
  WireField field;
  field.number = tag.value_or(0) >> 3;
  if (!tag || !ReadPayload(&rest_, *tag & 7, &field)) {
    failed_ = true;
    return std::nullopt;
  }
  field.raw = start.substr(0, start.size() - rest_.size());
  return field;
}

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendVarintField(uint64_t number, uint64_t value, std::string* out) {
  AppendVarint(number << 3 | kVarint, out);
  AppendVarint(value, out);
}

void AppendBytesField(uint64_t number, std::string_view bytes, std::string* out) {
  AppendVarint(number << 3 | kLengthDelimited, out);
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

void AppendPackedField(uint64_t number, const std::vector<int64_t>& values, std::string* out) {
  std::string packed;
  for (const int64_t value : values) AppendVarint(static_cast<uint64_t>(value), &packed);
  AppendBytesField(number, packed, out);
}

}  // namespace mxrec::tf
