// Table: rules of admission and eviction.
#include <limits>

#include "table/table_impl.h"

namespace mxrec {
namespace {

std::string Text(const AdmissionOptions& admission) {
  std::string text = "threshold " + std::to_string(admission.threshold) + ", coefficient " +
                     std::to_string(admission.coefficient) + ", mode " +
                     AdmissionModeName(admission.mode);
  if (admission.mode == AdmissionMode::kSketch) {
    text += ", expected_keys " + std::to_string(admission.expected_keys);
  }
  return text;
}

}  // namespace

Status Table::ConfigureAdmission(const AdmissionOptions& admission) {
  MXREC_RETURN_IF_ERROR(Validate(admission));
  MXREC_RETURN_IF_ERROR(CheckProcess());
  const StructureLock lock(*impl_);
  if (impl_->state == nullptr) return Closed(name_);
  const AdmissionOptions& now = impl_->options.admission;
  if (now == admission || !admission.on()) return {};
  if (now.on()) {
    return FailedPrecondition("table '" + name_ + "' has admission with " + Text(now) +
                              ", which cannot become " + Text(admission) +
                              "; give it the same everywhere, and change the threshold while "
                              "training by set_threshold");
  }
  MXREC_RETURN_IF_ERROR(impl_->state->ConfigureAdmission(admission));
  impl_->state->SetLineage({}, 0, false);  // the next version has counts: it is no delta
  impl_->options.admission = admission;
  ++impl_->version;
  return {};
}

bool Table::admits_none() const {
  if (impl_->forked()) return false;
  const SharedLock lock(impl_->structure);
  return impl_->state != nullptr && impl_->state->admits_none();
}

Status Table::SetThreshold(int64_t threshold) {
  return WithChange(name_, *impl_, 0, [&](TableState& state) -> Status {
    AdmissionOptions changed = state.admission();
    if (!changed.on()) {
      return FailedPrecondition("table '" + name_ +
                                "' has no admission whose threshold could be set; give it an "
                                "access_threshold (or admission=mxrec.Admission(...)) first");
    }
    if (threshold < 0) {
      return InvalidArgument("threshold is " + std::to_string(threshold) +
                             "; it must be in [1, 2^31 - 1], or 0 to keep the threshold and stop "
                             "counting");
    }
    changed.threshold = threshold;
    MXREC_RETURN_IF_ERROR(Validate(changed));
    state.SetThreshold(threshold);
    ++impl_->version;
    return {};
  });
}

Status Table::ConfigureEviction(const EvictionOptions& eviction) {
  MXREC_RETURN_IF_ERROR(Validate(eviction));
  MXREC_RETURN_IF_ERROR(CheckProcess());
  const ExclusiveLock lock(impl_->structure);
  if (impl_->state == nullptr) return Closed(name_);
  impl_->options.eviction = eviction;
  return {};
}

Result<int64_t> Table::Evict(std::optional<int64_t> now, std::optional<int64_t> budget) {
  if (now.has_value() && (*now < 0 || *now >= int64_t{1} << 32)) {
    return InvalidArgument("now is " + std::to_string(*now) + "; it is seconds in [0, 2^32)");
  }
  if (budget.has_value() && *budget < 0) {
    return InvalidArgument("budget is " + std::to_string(*budget) +
                           "; it must be at least 0 rows (none: all that are to go)");
  }
  int64_t freed = 0;
  MXREC_RETURN_IF_ERROR(WithChange(name_, *impl_, 0, [&](TableState& state) -> Status {
    impl_->structure.AssumeHeldShared();  // by WithChange
    const EvictionOptions& rules = impl_->options.eviction;
    if (!rules.on()) {
      return FailedPrecondition("table '" + name_ +
                                "' has no rule of eviction; give it an eviction_threshold (or "
                                "eviction=mxrec.Eviction(max_age=...))");
    }
    const bool wall = state.time_source() != TimeSource::kTimestamps;
    state.BeginSweep(rules, now.value_or(wall ? NowSeconds() : state.latest_time()));
    constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
    freed = state.Sweep(kAll, budget.value_or(kAll), !budget.has_value());
    ++impl_->version;
    return {};
  }));
  return freed;
}

AdmissionState Table::admission_state(const ReadLock& /*lock*/) const {
  impl_->structure.AssumeHeldShared();  // by the ReadLock
  return impl_->state->admission_state();
}

}  // namespace mxrec
