// TableState: which of the addresses that a caller kept still name a row.
#include "table/table_state.h"
#include "util/prefetch.h"

namespace mxrec {
namespace {

constexpr size_t kWindow = 32;  // addresses in flight: covers the latency of memory

}  // namespace

Status TableState::Canonicalize(std::span<const int64_t> addresses, StaleAddress policy,
                                int64_t* current) const {
  const Locks locks = LockAllShared();
  std::atomic<size_t> bad{addresses.size()};
  WorkerPool::Get().RunRanges(addresses.size(), kParallelKeys, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (i + kWindow < end && addresses[i + kWindow] >= 0) {
        const Address ahead = Address::Unpack(addresses[i + kWindow], shard_bits_);
        ShardAt(ahead.shard).mu.AssumeHeldShared();  // `locks`
        const RowArena& arena = *ShardAt(ahead.shard).arena;
        if (ahead.slot < arena.slots()) Prefetch(&arena.Meta(ahead.slot));
      }
      current[i] = addresses[i];
      if (addresses[i] == kNoAddress) continue;
      const Address address = Address::Unpack(addresses[i], shard_bits_);
      if (RowAt(address) != kNoRow) continue;
      ShardAt(address.shard).mu.AssumeHeldShared();
      const RowArena& arena = *ShardAt(address.shard).arena;
      const bool given = addresses[i] >= 0 && address.tag == tag_ && address.slot < arena.slots() &&
                         (address.generation & 1) == 1 &&
                         address.generation < arena.Generation(address.slot);
      int64_t key;
      // A row that was moved has not gone: its address is as good as it was.
      const bool followed =
          given && (policy == StaleAddress::kReject
                        ? arena.MovedKey(address.slot, address.generation, &key)
                        : arena.DepartedKey(address.slot, address.generation, &key));
      // A key's rows are all in one shard.
      const RowRef ref = followed ? ShardAt(address.shard).index.Find(HashKey(key), key) : kNoRow;
      if (!given || (policy == StaleAddress::kReject && ref == kNoRow)) {
        size_t lowest = bad.load();
        while (i < lowest && !bad.compare_exchange_weak(lowest, i)) {
        }
        continue;
      }
      current[i] = ref == kNoRow ? kNoAddress : AddressOf(address.shard, ref);
    }
  });
  if (bad == addresses.size()) return {};
  const int64_t address = addresses[bad];
  const Address parts = Address::Unpack(address, shard_bits_);
  const Shard& shard = ShardAt(parts.shard);
  shard.mu.AssumeHeldShared();
  std::string why = "table '" + name_ + "' never gave it out";
  if (address >= 0 && parts.tag != tag_) {
    why = "it belongs to another table, or to rows that a restore of table '" + name_ +
          "' has replaced";
  } else if (address >= 0 && parts.slot < shard.arena->slots() && (parts.generation & 1) == 1 &&
             parts.generation < shard.arena->Generation(parts.slot)) {
    why = "its row in table '" + name_ + "' is gone";
  }
  return InvalidArgument("addresses[" + std::to_string(bad.load()) +
                         "] = " + std::to_string(address) + " names no row: " + why +
                         "; pass addresses of a lookup of this table in the same step (-1 is "
                         "padding)");
}

}  // namespace mxrec
