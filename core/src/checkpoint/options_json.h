// TableOptions as JSON, and the checked way to read JSON that this program may not have written.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mxrec/options.h"
#include "mxrec/status.h"

namespace mxrec::checkpoint {

using Json = nlohmann::ordered_json;  // fields in the order they were put

// Fields of one JSON object. A missing or wrong field reads as a default and leaves kDataLoss,
// naming file and field, in the status that all readers of a document share; the first one stays.
class FieldReader {
 public:
  FieldReader(const Json* object, std::string path, std::string prefix, Status* status)
      : object_(object), path_(std::move(path)), prefix_(std::move(prefix)), status_(status) {}

  int64_t Int(const char* name, int64_t min = std::numeric_limits<int64_t>::min(),
              int64_t max = std::numeric_limits<int64_t>::max()) const;
  uint64_t Uint64(const char* name) const;
  float Float(const char* name) const;
  bool Bool(const char* name) const;
  std::string String(const char* name) const;
  std::vector<std::string> Strings(const char* name) const;
  std::vector<int64_t> Ints(const char* name) const;
  FieldReader Object(const char* name) const;
  bool Has(const char* name) const;
  std::vector<FieldReader> Array(const char* name, size_t max_items) const;

  void Fail(const std::string& name, const std::string& what) const;
  const Status& status() const { return *status_; }

 private:
  const Json* Find(const char* name) const;

  const Json* object_;
  std::string path_;
  std::string prefix_;  // "optimizer."
  Status* status_;
};

// The shortest decimal that reads back, as a double cast to float, to the same float.
Json FloatJson(float value);

// Fields "table", "optimizer" and "initializer" of *root. Of "table", "value_dtype" and
// "stochastic_rounding" are there only for 16-bit tables.
void PutTableOptions(const TableOptions& options, Json* root);
void GetTableOptions(const FieldReader& root, TableOptions* options);
// Fields "admission" and "eviction".
void PutAdmissionOptions(const TableOptions& options, Json* root);
void GetAdmissionOptions(const FieldReader& root, TableOptions* options);

}  // namespace mxrec::checkpoint
