// Table: lookups that insert and count.
#include <algorithm>
#include <limits>

#include "table/table_impl.h"

namespace mxrec {
namespace {

// Index entries that a training batch looks at for a sweep.
constexpr int64_t kLeastLooks = 4096, kMostLooks = 131'072;

// Seconds must fit into a row's metadata.
Status CheckTimestamps(std::span<const int64_t> timestamps, size_t keys) {
  const size_t n = timestamps.size();
  if (n > 1 && keys % n != 0) {
    return InvalidArgument("timestamps has " + std::to_string(n) + " elements and keys " +
                           std::to_string(keys) +
                           "; give one timestamp for the batch, or one for each example, of which "
                           "all have as many keys");
  }
  for (size_t i = 0; i < n; ++i) {
    if (timestamps[i] >= 0 && timestamps[i] < int64_t{1} << 32) continue;
    return InvalidArgument("timestamps[" + std::to_string(i) + "] is " +
                           std::to_string(timestamps[i]) +
                           "; timestamps are seconds in [0, 2^32); convert milliseconds");
  }
  return {};
}

Status CheckCoefficient(int64_t coefficient) {
  if (coefficient >= 0 && coefficient <= kMaxThreshold) return {};
  return InvalidArgument("coefficient is " + std::to_string(coefficient) +
                         "; it must be in [1, 2^31 - 1], or 0 for that of the table");
}

// A lookup that inserts and counts.
template <class Impl, class Call>
Status Train(const std::string& name, Impl& impl, KeySpan keys, const TrainingUse& use,
             Call&& call) {
  MXREC_RETURN_IF_ERROR(CheckTimestamps(use.timestamps, keys.size()));
  MXREC_RETURN_IF_ERROR(CheckCoefficient(use.coefficient));
  return WithChange(name, impl, keys.size(), [&](TableState& state) -> Status {
    const TimeSource source =
        use.timestamps.empty() ? TimeSource::kWallClock : TimeSource::kTimestamps;
    // One time for each of no examples looks like no times: such a batch says nothing about them.
    impl.structure.AssumeHeldShared();  // by WithState
    const bool timed = !keys.empty() || !use.timestamps.empty();
    if (timed) {
      MXREC_RETURN_IF_ERROR(state.CheckTimes(source, impl.options.eviction.max_age != kOff));
    }
    InsertRequest request{
        .count_use = true, .absent_row = use.absent_row, .makes_rows = use.makes_rows};
    request.coefficient = static_cast<uint64_t>(
        use.coefficient > 0 ? use.coefficient : impl.options.admission.coefficient);
    uint32_t earliest;
    if (use.timestamps.empty()) {
      request.times.all = NowSeconds();
      earliest = request.times.latest = request.times.all;
    } else {
      const auto [least, most] = std::ranges::minmax(use.timestamps);
      earliest = static_cast<uint32_t>(least);
      request.times.all = request.times.latest = static_cast<uint32_t>(most);
      if (use.timestamps.size() > 1 && !keys.empty()) {
        request.times.each = use.timestamps.data();
        request.times.per = keys.size() / use.timestamps.size();
      }
    }
    if (state.sweeping()) {
      // Of the work that is left each batch does a part that is in proportion to its own.
      state.Sweep(std::clamp<int64_t>(static_cast<int64_t>(keys.size()), kLeastLooks, kMostLooks),
                  std::numeric_limits<int64_t>::max(), false);
      state.Reap(keys);
      state.MakeRoom(keys);
      ++impl.version;  // rows beyond max_rows and below min_l2 go with the sweep
    }
    MXREC_RETURN_IF_ERROR(state.BringIn(keys));
    MXREC_RETURN_IF_ERROR(call(state, request));
    if (timed) state.NoteTimes(source, request.times.latest);
    if (state.sweeping()) state.Reprieve(keys, earliest);
    ++impl.version;
    return Status();
  });
}

}  // namespace

Status Table::LookupOrInsert(KeySpan keys, float* out, const TrainingUse& use) {
  return Train(name_, *impl_, keys, use, [&](TableState& state, const InsertRequest& request) {
    return state.ReadOrInsert(keys, request, out);
  });
}

Status Table::Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse,
                      const UniqueAllocator& allocate, const TrainingUse& use) {
  if (mode == ResolveMode::kInsert) {
    return Train(name_, *impl_, keys, use, [&](TableState& state, const InsertRequest& request) {
      return state.Resolve(keys, mode, request, inverse, allocate);
    });
  }
  return WithKeyChange(name_, *impl_, keys, [&](TableState& state) {
    return state.Resolve(keys, mode, {.absent_row = use.absent_row}, inverse, allocate);
  });
}

Status Table::Resolve(KeySpan keys, ResolveMode mode, int32_t* inverse, UniqueKeys* unique,
                      const TrainingUse& use) {
  const auto allocate = [&](size_t n) -> Result<UniqueOutput> {
    unique->keys.resize(n);
    unique->addresses.resize(n);
    unique->counts.resize(n);
    return UniqueOutput{.keys = unique->keys.data(),
                        .addresses = unique->addresses.data(),
                        .counts = unique->counts.data()};
  };
  return Resolve(keys, mode, inverse, UniqueAllocator(allocate), use);
}

Status Table::Prepare(KeySpan keys) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    std::vector<int64_t> missing;
    state.Prepare(keys, state.tiered() ? &missing : nullptr);
    if (!missing.empty()) impl_->workers->Stage(std::move(missing));
    return Status();
  });
}

Status Table::Missing(KeySpan keys, std::vector<int64_t>* out, int64_t coefficient) const {
  MXREC_RETURN_IF_ERROR(CheckCoefficient(coefficient));
  return WithKeys(name_, *impl_, keys, [&](const TableState& state) {
    impl_->structure.AssumeHeldShared();  // by WithState
    const int64_t weight = coefficient > 0 ? coefficient : impl_->options.admission.coefficient;
    state.Missing(keys, static_cast<uint64_t>(weight), out);
    return Status();
  });
}

}  // namespace mxrec
