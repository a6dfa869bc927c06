#include "table/table_state.h"

#include <algorithm>
#include <bit>
#include <bitset>

#include "util/mutex.h"

namespace mxrec {
namespace {

// Tags tell the addresses of living tables apart.
class TagPool {
 public:
  static TagPool& Get() {
    static TagPool* pool = new TagPool;
    return *pool;
  }
  int Take() {
    const MutexLock lock(mu_);
    // Round robin: a tag rests as long as possible before another table gets it.
    for (size_t i = 0; i < used_.size(); ++i) {
      next_ = (next_ + 1) % used_.size();
      if (!used_[next_]) {
        used_[next_] = true;
        return static_cast<int>(next_);
      }
    }
    return -1;
  }
  void Return(uint32_t tag) {
    const MutexLock lock(mu_);
    used_[tag] = false;
  }

 private:
  Mutex mu_;
  std::bitset<1 << kTagBits> used_ MXREC_GUARDED_BY(mu_);
  size_t next_ MXREC_GUARDED_BY(mu_) = 0;
};

}  // namespace

Result<std::unique_ptr<TableState>> TableState::Create(const TableOptions& options) {
  const int tag = TagPool::Get().Take();
  if (tag < 0) {
    return ResourceExhausted("cannot create table '" + options.name +
                             "': " + std::to_string(1 << kTagBits) +
                             " tables are open in this process, the most there can be; close() "
                             "those that are no longer used");
  }
  std::unique_ptr<TableState> state(new TableState(options, static_cast<uint32_t>(tag)));
  MXREC_RETURN_IF_ERROR(state->ConfigureAdmission(options.admission));
  if (options.ssd_rows == 0) return state;
  std::vector<SharedMutex*> locks;
  for (const auto& shard : state->shards_) locks.push_back(&shard->mu);
  auto tier = SsdTier::Open(options, state->stored_bytes(), locks);
  if (!tier.ok()) return tier.status();
  state->tier_ = std::move(tier).value();
  return state;
}

TableData::TableData(const TableOptions& options, uint32_t tag)
    : name_(options.name),
      dim_(options.dim),
      format_(options),
      slots_(SlotCount(options.optimizer.kind)),
      shard_bits_(std::countr_zero(static_cast<unsigned>(options.num_shards))),
      capacity_(options.memory_rows > 0 ? options.memory_rows + options.ssd_rows : kUnbounded),
      tag_(tag),
      padding_(options.padding_keys.begin(), options.padding_keys.end()),
      initializer_(
          std::make_unique<RowInitializer>(options.initializer, options.seed, options.dim)),
      optimizer_(Optimizer::Make(options.optimizer)),
      hot_(format_.embedding_bytes(), options.use_hot),
      sampler_(hot_.most_places()),
      tracker_(static_cast<uint32_t>(options.num_shards),
               format_.stored_floats(slots_) * sizeof(float)) {
  shards_.reserve(static_cast<size_t>(options.num_shards));
  for (uint32_t s = 0; s < static_cast<uint32_t>(options.num_shards); ++s) {
    shards_.push_back(std::make_unique<Shard>(s, &index_pages_, &row_pages_, shard_bits_,
                                              static_cast<int>(format_.stored_floats(slots_))));
  }
}

TableState::~TableState() {
  tier_.reset();    // its threads take the shards' locks
  shards_.clear();  // before the pages they lie in
  TagPool::Get().Return(tag_);
}

void TableState::AddStats(TableStats* stats) const {
  stats->rows = rows();
  stats->capacity = capacity_;
  stats->num_shards = static_cast<int>(shards());
  stats->value_type = format_.type();
  uint64_t entries = 0;
  int64_t split_nanos = 0;
  int64_t index_pieces = 0;
  int64_t row_pieces = 0;
  for (uint32_t s = 0; s < shards(); ++s) {
    const auto& shard = shards_[s];
    const SharedLock lock(shard->mu);
    stats->hot_rows = static_cast<int64_t>(hot_.size());  // any shard's lock keeps the set
    stats->bytes_hot = hot_.bytes();
    stats->bytes_rows += shard->arena->row_bytes();
    stats->bytes_metadata += shard->arena->meta_bytes() + tracker_.bytes(s);
    stats->bytes_index += shard->index.bytes();
    index_pieces += shard->index.segment_bytes();
    row_pieces += shard->arena->held_bytes();
    stats->segments += shard->index.segments();
    stats->growth_events += shard->index.splits();
    split_nanos += shard->index.split_nanos();
    stats->longest_growth_micros =
        std::max(stats->longest_growth_micros, shard->index.longest_split_nanos() / 1000);
    stats->hits += shard->hits;
    stats->misses += shard->misses;
    stats->inserts += shard->inserts;
    stats->erased += shard->erased;
    if (shard->counters != nullptr) {
      stats->counted_keys += shard->counters->keys();
      stats->bytes_admission += shard->counters->bytes();
      index_pieces += shard->counters->page_bytes();
    }
    entries += static_cast<uint64_t>(shard->index.segments()) * KeyIndex::kSegmentEntries;
  }
  stats->growth_micros = split_nanos / 1000;
  stats->bytes_metadata += marks_bytes_.load(std::memory_order_relaxed);
  stats->bytes_save_images = tracker_.image_bytes();
  // The rest of partly used pages. Another thread may be changing the table meanwhile.
  stats->bytes_index += std::max<int64_t>(index_pages_.held_bytes() - index_pieces, 0);
  stats->bytes_rows += std::max<int64_t>(row_pages_.held_bytes() - row_pieces, 0);
  stats->misses += counters_.read_misses.load(std::memory_order_relaxed);
  stats->hot_hits = counters_.hot_hits.load(std::memory_order_relaxed);
  stats->hits += counters_.read_hits.load(std::memory_order_relaxed);
  stats->refused_by_capacity = counters_.refused_by_capacity.load(std::memory_order_relaxed);
  stats->refused_by_admission = counters_.refused_by_admission.load(std::memory_order_relaxed);
  stats->admitted = counters_.admitted.load(std::memory_order_relaxed);
  stats->evicted_by_age = counters_.evicted_by_age.load(std::memory_order_relaxed);
  stats->evicted_by_rows = counters_.evicted_by_rows.load(std::memory_order_relaxed);
  stats->evicted_by_l2 = counters_.evicted_by_l2.load(std::memory_order_relaxed);
  stats->prepared_lookups = prepared_.taken();
  stats->prepared_waiting = static_cast<int64_t>(prepared_.size());
  stats->prepared_dropped = prepared_.dropped();
  stats->evicting = sweeping();
  stats->latest_time = latest_time_;
  if (admission_.on()) {
    stats->admission_threshold = threshold_;
    stats->admission_frozen = frozen_;
  }
  if (stats->evicting) {
    const int64_t expired = CountExpired();
    stats->rows -= expired;
    stats->evicted_by_age += expired;
  }
  stats->skipped_gradients = counters_.skipped.load(std::memory_order_relaxed);
  if (entries > 0) stats->load = static_cast<double>(memory_rows()) / static_cast<double>(entries);
  if (tier_ == nullptr) return;
  TierStats& tiers = stats->tiers.emplace();
  tier_->AddStats(&tiers);
  tiers.memory_rows = memory_rows();
  stats->bytes_index += tiers.bytes_index;
}

void TableState::InheritCounters(const TableState& previous) {
  TableStats stats;
  previous.AddStats(&stats);
  Shard& first = ShardAt(0);
  const ExclusiveLock lock(first.mu);
  first.inserts += stats.inserts;
  first.erased += stats.erased;
  counters_.read_hits += stats.hits;
  counters_.read_misses += stats.misses;
  counters_.refused_by_capacity += stats.refused_by_capacity;
  counters_.refused_by_admission += stats.refused_by_admission;
  counters_.admitted += stats.admitted;
  counters_.evicted_by_age += stats.evicted_by_age;
  counters_.evicted_by_rows += stats.evicted_by_rows;
  counters_.evicted_by_l2 += stats.evicted_by_l2;
  counters_.skipped += stats.skipped_gradients;
  counters_.hot_hits += stats.hot_hits;
  if (tier_ != nullptr && stats.tiers.has_value()) tier_->InheritCounters(*stats.tiers);
  prepared_.Inherit(stats.prepared_lookups, stats.prepared_dropped + stats.prepared_waiting);
}

}  // namespace mxrec
