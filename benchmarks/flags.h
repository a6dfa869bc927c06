// Command lines of the benchmark programs: --name=value flags, taken out of argv.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "workload.h"

namespace mxrec::bench {

// Flags that were read are removed; Finish() ends the program when others are left. A value that
// does not parse ends the program with a message that names flag, value and what is expected.
class Flags {
 public:
  // --help prints `usage` and ends the program.
  Flags(int* argc, char** argv, std::string usage);

  // True when `name` is the whole argument, without a value.
  bool Has(std::string_view name);
  std::string Text(std::string_view name, std::string_view standard);
  std::vector<std::string> Texts(std::string_view name, std::string_view standard);
  // Integers of at least 1; 5e7 is one as well.
  int64_t Count(std::string_view name, std::string_view standard);
  std::vector<int64_t> Counts(std::string_view name, std::string_view standard);
  // "uniform" or "zipf" with its exponent.
  std::vector<Law> Laws(std::string_view name, std::string_view standard);
  void Finish() const;

 private:
  int* argc_;
  char** argv_;
  std::string usage_;
};

bool Contains(const std::vector<std::string>& names, std::string_view name);

// Ends the program when one of `asked` is none of `known`.
void CheckNames(std::string_view flag, const std::vector<std::string>& asked,
                const std::vector<std::string>& known);

}  // namespace mxrec::bench
