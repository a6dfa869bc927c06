#include <new>
#include <optional>

#include "mxrec/checkpoint.h"
#include "table/table_impl.h"

namespace mxrec {

// There is a snapshot for as long as there is one of these.
struct Snapshot::Impl {
  explicit Impl(Table::Impl* of) : table(of) { table->snapshot.Enter(); }
  ~Impl() { table->snapshot.Leave(); }

  Table::Impl* const table;
  std::string name;
  SnapshotOptions wanted;
  TableOptions options;
  int64_t optimizer_step = 0;
  int64_t parent_step = 0;
  AdmissionState admission_state;
  ScanCursor rows, counts;
};

namespace {

Status OutOfMemory(const std::string& name) {
  return ResourceExhausted("out of memory while saving table '" + name +
                           "': rows that training changes meanwhile are kept as they were. Save "
                           "when fewer rows change, or give the process more memory");
}

}  // namespace

Result<Snapshot> Table::BeginSnapshot(const SnapshotOptions& wanted) const {
  if (wanted.recent_threshold < 0 || wanted.recent_threshold > kMaxThreshold) {
    return InvalidArgument("recent_threshold is " + std::to_string(wanted.recent_threshold) +
                           "; it must be in [0, 2^31 - 1] (0: nothing is left out)");
  }
  MXREC_RETURN_IF_ERROR(CheckProcess());
  auto impl = std::make_unique<Snapshot::Impl>(impl_.get());
  impl->name = name_;
  impl->wanted = wanted;
  const Status begun = WithChange(name_, *impl_, 0, [&](TableState& state) -> Status {
    const bool delta = !wanted.parent.empty();
    if (delta && state.tracker().lineage() != wanted.parent) {
      const std::string& since = state.tracker().lineage();
      return FailedPrecondition("table '" + name_ + "' cannot be saved as a delta to the version " +
                                wanted.parent + ": it counts its changes since " +
                                (since.empty() ? "none" : "the version " + since) +
                                ". Save it in full first");
    }
    impl_->structure.AssumeHeldShared();  // by WithChange
    impl->options = impl_->options;
    impl->optimizer_step = impl_->step;
    impl->parent_step = state.tracker().lineage_step();
    impl->admission_state = state.admission_state();
    state.BeginSnapshot(
        {.delta = delta, .tracks = wanted.tracks, .recent_threshold = wanted.recent_threshold});
    impl_->image_limit = wanted.image_bytes;
    return {};
  });
  MXREC_RETURN_IF_ERROR(begun);
  return Snapshot(std::move(impl));
}

std::string Table::lineage() const {
  if (impl_->forked()) return {};
  const SharedLock lock(impl_->structure);
  if (impl_->state == nullptr) return {};
  const SharedLock changes(impl_->changes);
  return impl_->state->tracker().lineage();
}

Snapshot::Snapshot(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot::~Snapshot() { End({}); }

const std::string& Snapshot::table_name() const { return impl_->name; }
const TableOptions& Snapshot::options() const { return impl_->options; }
int64_t Snapshot::optimizer_step() const { return impl_->optimizer_step; }
const AdmissionState& Snapshot::admission_state() const { return impl_->admission_state; }
const SnapshotOptions& Snapshot::wanted() const { return impl_->wanted; }
int64_t Snapshot::parent_step() const { return impl_->parent_step; }

namespace {

// The table can be neither closed nor restored meanwhile, so its state is there.
template <class Call>
Status WithSnapshot(const std::string& name, Table::Impl* table, Call&& call) try {
  const SharedLock lock(table->structure);
  MXREC_RETURN_IF_ERROR(call(*table->state));
  const ChangeTracker& tracker = table->state->tracker();
  if (tracker.out_of_reach()) {
    return DataLoss("table '" + name +
                    "': a row on SSD that was removed while it was being saved could not be read, "
                    "so this version would lack it; stats()[\"tiers\"] counts the errors. Check "
                    "the disk and save again");
  }
  if (tracker.out_of_memory() || table->state->counts_lost()) return OutOfMemory(name);
  return {};
} catch (const std::bad_alloc&) {
  return OutOfMemory(name);
}

}  // namespace

Status Snapshot::Scan(int64_t max_rows, RowBlock* block) {
  MXREC_RETURN_IF_ERROR(CheckMaxRows(max_rows));
  const Status status = WithSnapshot(impl_->name, impl_->table, [&](TableState& state) {
    return state.ScanSnapshot(&impl_->rows, static_cast<size_t>(max_rows),
                              impl_->wanted.image_bytes, block);
  });
  impl_->table->snapshot.Progress();
  return status;
}

Status Snapshot::LinkSegments(const LinkSegment& link, std::vector<SnapshotSegment>* segments) {
  const Status status = WithSnapshot(impl_->name, impl_->table, [&](TableState& state) {
    return state.LinkSegments(link, segments);
  });
  impl_->table->snapshot.Progress();
  return status;
}

Status Snapshot::Gone(std::vector<int64_t>* keys) const {
  return WithSnapshot(impl_->name, impl_->table, [&](TableState& state) {
    *keys = state.GoneKeys();
    return Status();
  });
}

Status Snapshot::ScanCounts(int64_t max_rows, RowBlock* block) {
  MXREC_RETURN_IF_ERROR(CheckMaxRows(max_rows));
  return WithSnapshot(impl_->name, impl_->table, [&](TableState& state) {
    state.ScanSnapshotCounts(&impl_->counts, static_cast<size_t>(max_rows), block);
    return Status();
  });
}

int64_t Snapshot::left_out() const {
  const SharedLock lock(impl_->table->structure);
  return impl_->table->state->tracker().left_out();
}

void Snapshot::End(const std::string& saved, int64_t step) {
  if (impl_ == nullptr) return;
  const std::unique_ptr<Impl> impl = std::move(impl_);
  ChangeTracker::Remains remains;  // freed when nobody waits any more
  const SharedLock structure(impl->table->structure);
  const ExclusiveLock changes(impl->table->changes);
  remains = impl->table->state->EndSnapshot(saved, step);
}

}  // namespace mxrec
