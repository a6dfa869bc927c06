#include "flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

namespace mxrec::bench {
namespace {

[[noreturn]] void Refuse(std::string_view flag, std::string_view value, std::string_view expected) {
  std::fprintf(stderr, "benchmark: --%.*s=%.*s: expected %.*s\n", static_cast<int>(flag.size()),
               flag.data(), static_cast<int>(value.size()), value.data(),
               static_cast<int>(expected.size()), expected.data());
  std::exit(2);
}

std::optional<double> Number(std::string_view text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

int64_t ParseCount(std::string_view flag, std::string_view text) {
  const std::optional<double> value = Number(text);
  if (!value || *value < 1.0 || *value > 1e12 || *value != std::floor(*value)) {
    Refuse(flag, text, "a whole number in [1, 1e12]");
  }
  return static_cast<int64_t>(*value);
}

Law ParseLaw(std::string_view flag, std::string_view text) {
  constexpr std::string_view kZipf = "zipf";
  if (text == "uniform") return {};
  const std::optional<double> exponent =
      text.starts_with(kZipf) ? Number(text.substr(kZipf.size())) : std::nullopt;
  if (!exponent || !(*exponent > 0.0 && *exponent <= 4.0)) {
    Refuse(flag, text, "uniform, or zipf with an exponent in (0, 4], such as zipf1.05");
  }
  return {*exponent};
}

}  // namespace

Flags::Flags(int* argc, char** argv, std::string usage)
    : argc_(argc), argv_(argv), usage_(std::move(usage)) {
  if (!Has("help")) return;
  std::fputs(usage_.c_str(), stdout);
  std::exit(0);
}

bool Flags::Has(std::string_view name) {
  const std::string wanted = "--" + std::string(name);
  for (int i = 1; i < *argc_; ++i) {
    if (argv_[i] != wanted) continue;
    std::copy(argv_ + i + 1, argv_ + *argc_, argv_ + i);
    --*argc_;
    return true;
  }
  return false;
}

std::string Flags::Text(std::string_view name, std::string_view standard) {
  const std::string prefix = "--" + std::string(name) + "=";
  for (int i = 1; i < *argc_; ++i) {
    const std::string_view argument = argv_[i];
    if (!argument.starts_with(prefix)) continue;
    const std::string value(argument.substr(prefix.size()));
    std::copy(argv_ + i + 1, argv_ + *argc_, argv_ + i);
    --*argc_;
    return value;
  }
  return std::string(standard);
}

std::vector<std::string> Flags::Texts(std::string_view name, std::string_view standard) {
  const std::string text = Text(name, standard);
  std::vector<std::string> parts = Split(text);
  if (parts.empty()) Refuse(name, text, "a list with commas");
  return parts;
}

int64_t Flags::Count(std::string_view name, std::string_view standard) {
  return ParseCount(name, Text(name, standard));
}

std::vector<int64_t> Flags::Counts(std::string_view name, std::string_view standard) {
  std::vector<int64_t> counts;
  for (const std::string& text : Texts(name, standard)) counts.push_back(ParseCount(name, text));
  return counts;
}

std::vector<Law> Flags::Laws(std::string_view name, std::string_view standard) {
  std::vector<Law> laws;
  for (const std::string& text : Texts(name, standard)) laws.push_back(ParseLaw(name, text));
  return laws;
}

void Flags::Finish() const {
  if (*argc_ <= 1) return;
  std::fprintf(stderr, "benchmark: unknown argument %s\n%s", argv_[1], usage_.c_str());
  std::exit(2);
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

void CheckNames(std::string_view flag, const std::vector<std::string>& asked,
                const std::vector<std::string>& known) {
  for (const std::string& name : asked) {
    if (Contains(known, name)) continue;
    std::string expected = "some of";
    for (const std::string& each : known) expected += " " + each;
    Refuse(flag, name, expected);
  }
}

}  // namespace mxrec::bench
