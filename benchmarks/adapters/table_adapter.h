// mxrec::Table behind the interface that table_benchmark.cc drives. An adapter has
//   Adapter(dim), Insert(keys, values), Lookup(keys, out), Train(keys, grads, out), kName.
// Every key of a Lookup has been inserted before.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>

#include "mxrec/table.h"

namespace mxrec::bench {

class TableAdapter {
 public:
  static constexpr const char* kName = "mxrec";

  explicit TableAdapter(int dim) {
    TableOptions options;
    options.name = "benchmark";
    options.dim = dim;
    options.optimizer.kind = OptimizerKind::kAdagrad;
    Result<std::shared_ptr<Table>> table = Table::Create(options);
    Check(table.status());
    table_ = std::move(table).value();
  }

  void Insert(std::span<const int64_t> keys, const float* values) {
    Check(table_->Assign(keys, values));
  }
  void Lookup(std::span<const int64_t> keys, float* out) {
    Check(table_->Lookup(keys, nullptr, out));
  }
  // One step: training lookup, then Adagrad.
  void Train(std::span<const int64_t> keys, const float* grads, float* out) {
    Check(table_->LookupOrInsert(keys, out));
    ApplyResult result;
    Check(table_->ApplyGradients(keys, grads, std::nullopt, &result));
  }

 private:
  static void Check(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "benchmark: %s\n", status.message().c_str());
    std::abort();
  }

  std::shared_ptr<Table> table_;
};

}  // namespace mxrec::bench
