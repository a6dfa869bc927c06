// Table: what moves rows between memory and SSD beside its calls.
#include <new>

#include "table/table_impl.h"

namespace mxrec {

void Table::Impl::SpillAhead() {
  for (;;) {
    const SharedLock lock(structure);
    if (state == nullptr || !state->WantsMoreRoom()) return;
    // A save that is behind gets no more images from here.
    if (state->tracker().image_bytes() > image_limit) return;
    const ExclusiveLock changing(changes);
    try {
      const Result<bool> more = state->SpillSome();
      // What fails here fails again in a call that needs the room, which reports it.
      if (!more.ok() || !more.value()) return;
    } catch (const std::bad_alloc&) {
      return;
    }
  }
}

void Table::Impl::StageAhead(const std::vector<int64_t>& keys) const {
  const SharedLock lock(structure);
  if (state == nullptr) return;
  try {
    state->Stage(keys);
  } catch (const std::bad_alloc&) {
    // They are read when they are needed.
  }
}

void Table::Impl::ReadAhead(KeySpan keys) const {
  if (keys.empty()) return;
  std::vector<int64_t> copy(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) copy[i] = keys[i];
  workers->Stage(std::move(copy));
}

Status Table::Prefetch(KeySpan keys) const {
  return WithState(name_, *impl_, keys.size(), [&](const TableState& state) {
    if (state.tiered()) impl_->ReadAhead(keys);
    return Status();
  });
}

}  // namespace mxrec
