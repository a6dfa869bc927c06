#include "checkpoint/format.h"

#include <cstdio>

namespace mxrec::checkpoint {

RowLayout CountLayout(AdmissionMode mode) {
  constexpr uint32_t kSketchFloats = 16;  // 64 bytes
  const uint32_t floats = mode == AdmissionMode::kSketch ? kSketchFloats : 0;
  return {.row_floats = floats, .dim = floats};
}

std::string PartFile(PartKind kind, uint64_t part) {
  constexpr const char* kPrefixes[] = {"data", "counts", "gone"};
  char name[32];
  std::snprintf(name, sizeof(name), "%s-%05llu", kPrefixes[static_cast<int>(kind)],
                static_cast<unsigned long long>(part));
  return name;
}

std::string ToHex(const Uid& uid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : uid) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

bool FromHex(const std::string& text, Uid* uid) {
  if (text.size() != 2 * uid->size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    unsigned digit;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a' + 10);
    } else {
      return false;
    }
    unsigned char& byte = (*uid)[i / 2];
    byte = static_cast<unsigned char>(i % 2 == 0 ? digit << 4 : byte | digit);
  }
  return true;
}

Status Damaged(const std::string& path, uint64_t offset, const std::string& what) {
  return DataLoss(path + ": damaged at byte " + std::to_string(offset) + ": " + what);
}

}  // namespace mxrec::checkpoint
