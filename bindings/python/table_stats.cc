#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "errors.h"
#include "mxrec/table_types.h"
#include "py_table.h"

namespace nb = nanobind;

namespace mxrec::python {

nb::object OptionalCount(int64_t count) {
  if (count == kUnbounded) return nb::none();
  return nb::int_(count);
}

namespace {

// None: there is no admission, or no threshold is known.
nb::object OptionalThreshold(const TableStats& stats) {
  const int64_t threshold = stats.admission_threshold;
  if (threshold == kOff || threshold == kNeverAdmit) return nb::none();
  return nb::int_(threshold);
}

nb::object OptionalText(const std::string& text) {
  if (text.empty()) return nb::none();
  return nb::str(text.c_str(), text.size());
}

nb::dict Tiers(const TierStats& stats) {
  nb::dict memory;
  memory["rows"] = stats.memory_rows;
  memory["capacity"] = stats.memory_capacity;
  memory["promoted"] = stats.promoted;
  memory["promoted_staged"] = stats.promoted_staged;
  memory["staged_rows"] = stats.staged_rows;
  memory["bytes_staged"] = stats.bytes_staged;
  nb::dict ssd;
  ssd["rows"] = stats.ssd_rows;
  ssd["capacity"] = stats.ssd_capacity;
  ssd["spilled"] = stats.spilled;
  ssd["read_in_place"] = stats.read_in_place;
  ssd["bytes_index"] = stats.bytes_index;
  ssd["read_requests"] = stats.read_requests;
  ssd["bytes_read"] = stats.bytes_read;
  ssd["bytes_written"] = stats.bytes_written;
  ssd["bytes_on_disk"] = stats.bytes_on_disk;
  ssd["bytes_live"] = stats.bytes_live;
  ssd["path_bytes"] = stats.path_bytes;
  ssd["compacted_rows"] = stats.compacted_rows;
  ssd["wait_seconds"] = static_cast<double>(stats.wait_micros) * 1e-6;
  ssd["errors"] = stats.errors;
  ssd["background_error"] = OptionalText(stats.background_error);
  ssd["uses_io_uring"] = stats.uses_io_uring;
  ssd["why_no_io_uring"] = OptionalText(stats.why_no_io_uring);
  ssd["direct_io"] = stats.direct_io;
  nb::dict tiers;
  tiers["memory"] = memory;
  tiers["ssd"] = ssd;
  return tiers;
}

}  // namespace

nb::dict Stats(const PyTable& self) {
  Check(self->CheckProcess());
  const TableStats stats = Unlocked([&] { return self->Stats(); });
  const int64_t staged = stats.tiers.has_value() ? stats.tiers->bytes_staged : 0;
  nb::dict d;
  d["rows"] = stats.rows;
  d["capacity"] = OptionalCount(stats.capacity);
  d["bytes"] = stats.bytes_rows + stats.bytes_metadata + stats.bytes_index + stats.bytes_admission +
               stats.bytes_hot + stats.bytes_save_images + staged;
  d["bytes_rows"] = stats.bytes_rows;
  d["bytes_metadata"] = stats.bytes_metadata;
  d["bytes_index"] = stats.bytes_index;
  d["bytes_save_images"] = stats.bytes_save_images;
  d["bytes_staged"] = staged;
  d["load"] = stats.load;
  d["segments"] = stats.segments;
  d["seen"] = stats.hits + stats.misses;
  d["hits"] = stats.hits;
  d["misses"] = stats.misses;
  d["inserts"] = stats.inserts;
  d["erased"] = stats.erased;
  d["refused"] = stats.refused_by_capacity + stats.refused_by_admission;
  d["refused_by_capacity"] = stats.refused_by_capacity;
  d["refused_by_admission"] = stats.refused_by_admission;
  d["admitted"] = stats.admitted;
  d["evicted"] = stats.evicted_by_age + stats.evicted_by_rows + stats.evicted_by_l2;
  d["evicted_by_age"] = stats.evicted_by_age;
  d["evicted_by_rows"] = stats.evicted_by_rows;
  d["evicted_by_l2"] = stats.evicted_by_l2;
  d["evicting"] = stats.evicting;
  d["counted_keys"] = stats.counted_keys;
  d["bytes_admission"] = stats.bytes_admission;
  d["latest_time"] = stats.latest_time;
  d["admission_threshold"] = OptionalThreshold(stats);
  d["admission_frozen"] = stats.admission_frozen;
  d["hot_hits"] = stats.hot_hits;
  d["hot_rows"] = stats.hot_rows;
  d["bytes_hot"] = stats.bytes_hot;
  d["prepared_lookups"] = stats.prepared_lookups;
  d["prepared_waiting"] = stats.prepared_waiting;
  d["prepared_dropped"] = stats.prepared_dropped;
  d["skipped_gradients"] = stats.skipped_gradients;
  d["growth_events"] = stats.growth_events;
  d["growth_micros"] = stats.growth_micros;
  d["longest_growth_micros"] = stats.longest_growth_micros;
  d["optimizer_step"] = stats.optimizer_step;
  d["updates"] = stats.updates;
  d["num_shards"] = stats.num_shards;
  d["value_dtype"] = ValueTypeName(stats.value_type);
  d["tiers"] = stats.tiers.has_value() ? nb::object(Tiers(*stats.tiers)) : nb::none();
  return d;
}

}  // namespace mxrec::python
