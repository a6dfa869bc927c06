// libcuckoo's concurrent map from int64 to a row stored in the map itself. The row's width is part
// of the type, so there is one instance for each dim. Every call uses all threads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <libcuckoo/cuckoohash_map.hh>
#include <memory>

#include "adapters/adapter.h"

namespace mxrec::bench {

class LibcuckooMap {
 public:
  static constexpr const char* kName = "libcuckoo";

  static bool Supports(int dim) { return Make(dim) != nullptr; }

  explicit LibcuckooMap(const AdapterOptions& options) : rows_(Make(options.dim)) {
    if (rows_ != nullptr) return;
    std::fprintf(stderr, "libcuckoo: dim is %d, expected 8, 16, 32, 64 or 128\n", options.dim);
    std::abort();
  }

  void Insert(Keys keys, const float* values) { rows_->Insert(keys, values); }
  void Find(Keys keys, float* out) const { rows_->Find(keys, out); }
  void FindOrInit(Keys keys, float* out) { rows_->FindOrInit(keys, out); }
  void Update(Keys keys, const float* grads) { rows_->Update(keys, grads); }
  int64_t Erase(Keys keys) { return rows_->Erase(keys); }
  int64_t size() const { return rows_->size(); }

 private:
  struct Rows {
    virtual ~Rows() = default;
    virtual void Insert(Keys keys, const float* values) = 0;
    virtual void Find(Keys keys, float* out) const = 0;
    virtual void FindOrInit(Keys keys, float* out) = 0;
    virtual void Update(Keys keys, const float* grads) = 0;
    virtual int64_t Erase(Keys keys) = 0;
    virtual int64_t size() const = 0;
  };

  template <size_t kDim>
  class RowsOf final : public Rows {
   public:
    void Insert(Keys keys, const float* values) override {
      ForEach(keys, [&](size_t i) {
        const float* value = values + i * kDim;
        Row fresh = initial_;
        CopyRow(value, kDim, fresh.data());
        map_.upsert(
            keys[i], [&](Row& row) { CopyRow(value, kDim, row.data()); }, fresh);
      });
    }
    void Find(Keys keys, float* out) const override {
      ForEach(keys, [&](size_t i) {
        map_.find_fn(keys[i], [&](const Row& row) { CopyRow(row.data(), kDim, out + i * kDim); });
      });
    }
    void FindOrInit(Keys keys, float* out) override {
      ForEach(keys, [&](size_t i) {
        const auto read = [&](Row& row) { CopyRow(row.data(), kDim, out + i * kDim); };
        if (map_.upsert(keys[i], read, initial_)) CopyRow(initial_.data(), kDim, out + i * kDim);
      });
    }
    void Update(Keys keys, const float* grads) override {
      ForEach(keys, [&](size_t i) {
        map_.update_fn(keys[i], [&](Row& row) { AdagradRow(grads + i * kDim, kDim, row.data()); });
      });
    }
    int64_t Erase(Keys keys) override {
      std::atomic<int64_t> erased = 0;
      ForEach(keys, [&](size_t i) { erased += map_.erase(keys[i]) ? 1 : 0; });
      return erased;
    }
    int64_t size() const override { return static_cast<int64_t>(map_.size()); }

   private:
    using Row = std::array<float, 2 * kDim>;

    template <typename Call>
    static void ForEach(Keys keys, const Call& call) {
      InParallel(keys.size(), [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) call(i);
      });
    }
    static Row InitialRow() {
      Row row;
      InitRow(row.data(), kDim);
      return row;
    }

    const Row initial_ = InitialRow();
    libcuckoo::cuckoohash_map<int64_t, Row> map_;
  };

  static std::unique_ptr<Rows> Make(int dim) {
    switch (dim) {
      case 8:
        return std::make_unique<RowsOf<8>>();
      case 16:
        return std::make_unique<RowsOf<16>>();
      case 32:
        return std::make_unique<RowsOf<32>>();
      case 64:
        return std::make_unique<RowsOf<64>>();
      case 128:
        return std::make_unique<RowsOf<128>>();
      default:
        return nullptr;
    }
  }

  std::unique_ptr<Rows> rows_;
};

}  // namespace mxrec::bench
