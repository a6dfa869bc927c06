// The loop under every read by key: hash, probe, row. Its three steps run on different keys at a
// time, so that what one step prefetches has arrived when the next needs it.
//
// The caller holds all shards' locks, shared at least, from MakeReadView to the last read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "arena/row_arena.h"
#include "index/key_index.h"
#include "kernels/row_copier.h"
#include "mxrec/options.h"
#include "mxrec/table_types.h"
#include "table/hot_rows.h"
#include "table/shard.h"

namespace mxrec {

// What a read needs of each shard, side by side: following the pointers of Shard, KeyIndex and
// RowArena for every key costs as much as the probe.
struct ReadView {
  struct OneShard {
    const IndexBucket* const* directory;
    int directory_shift;  // of a 32-bit position
    RowArena::View rows;
    const KeyIndex* index;
  };
  std::array<OneShard, kMaxShards> shards;
  int shard_bits;
  HotRows::View hot;
};

void MakeReadView(const std::vector<std::unique_ptr<Shard>>& shards, int shard_bits,
                  const HotRows& hot, ReadView* view);

// What a training lookup collects while it reads: the rows it used, by shard and in batch order,
// the uses of hot rows by their place, and the positions of the keys without a row.
struct UsedRows {
  std::array<std::vector<RowRef>, kMaxShards> refs;
  std::vector<uint32_t> hot_uses;  // [hot places], or empty
  std::vector<uint32_t> missing;   // positions in the batch

  void Clear(int shards, size_t hot_places);
};

struct ReadResult {
  size_t found = 0;
  size_t hot = 0;  // of `found`, those among the hot rows
};

// Reads rows [begin, end) of a batch into out [n, dim] (the whole batch's); absent keys read
// absent_row, or zeros when it is null. used: null for reads that leave no trace.
ReadResult ReadRange(const ReadView& view, KeySpan keys, size_t begin, size_t end,
                     const kernels::RowCopier& copy, int dim, size_t row_bytes,
                     const float* absent_row, float* out, UsedRows* used);

}  // namespace mxrec
