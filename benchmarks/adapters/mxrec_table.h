// mxrec::Table, with its hot keys and without.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "adapters/adapter.h"
#include "mxrec/table.h"

namespace mxrec::bench {

class MxrecTable {
 public:
  static constexpr const char* kName = "mxrec";

  static bool Supports(int /*dim*/) { return true; }

  explicit MxrecTable(const AdapterOptions& options) : MxrecTable(options, /*use_hot=*/true) {}

  void Insert(Keys keys, const float* values) { Check(table_->Assign(keys, values)); }
  void Find(Keys keys, float* out) const { Check(table_->Lookup(keys, nullptr, out)); }
  void FindOrInit(Keys keys, float* out) { Check(table_->LookupOrInsert(keys, out)); }
  void Update(Keys keys, const float* grads) {
    ApplyResult result;
    Check(table_->ApplyGradients(keys, grads, std::nullopt, &result));
  }
  int64_t Erase(Keys keys) {
    Result<int64_t> erased = table_->Erase(keys);
    Check(erased.status());
    return erased.value();
  }
  int64_t size() const { return table_->size(); }
  // As the table itself reports.
  int64_t HeldBytes() const {
    const TableStats stats = table_->Stats();
    return stats.bytes_rows + stats.bytes_metadata + stats.bytes_index + stats.bytes_hot;
  }

 protected:
  MxrecTable(const AdapterOptions& options, bool use_hot) {
    TableOptions made;
    made.name = "benchmark";
    made.dim = options.dim;
    made.use_hot = use_hot;
    if (options.trainable) {
      made.optimizer.kind = OptimizerKind::kAdagrad;
      made.optimizer.learning_rate = kLearningRate;
      made.optimizer.initial_accumulator_value = kInitialAccumulator;
    }
    made.initializer.kind = InitializerKind::kConstant;
    made.initializer.value = kInitialValue;
    Result<std::shared_ptr<Table>> table = Table::Create(made);
    Check(table.status());
    table_ = std::move(table).value();
  }

 private:
  static void Check(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "benchmark: %s\n", status.message().c_str());
    std::abort();
  }

  std::shared_ptr<Table> table_;
};

class MxrecWithoutHotKeys : public MxrecTable {
 public:
  static constexpr const char* kName = "mxrec_hot_off";

  explicit MxrecWithoutHotKeys(const AdapterOptions& options)
      : MxrecTable(options, /*use_hot=*/false) {}
};

}  // namespace mxrec::bench
