// HotSampler: which keys of recent batches are the most frequent, from a sample of them.
//
// Every batch gives some of its keys; counts are halved whenever the sample has doubled, so that
// keys that are no longer asked for make room. What is sampled, and when, decides only which rows
// are copied to where reads find them sooner, never what they read.
//
// Thread-safe; a thread that finds it busy goes on without sampling.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "mxrec/table_types.h"
#include "table/key_tally.h"
#include "util/mutex.h"

namespace mxrec {

class HotSampler {
 public:
  explicit HotSampler(size_t places) : places_(places) {}

  // Takes some keys of a batch that was read. True: it is time for Candidates().
  bool Sample(KeySpan keys);
  // Told how many keys of a read were found among the hot rows. When their share has halved the
  // keys have changed, and Sample starts afresh.
  void Observe(size_t keys, size_t hot);
  // The keys worth a place now, most frequent first: none of them while keys are too even to
  // profit. No value: another thread has just taken them.
  std::optional<std::vector<int64_t>> Candidates();

 private:
  const size_t places_;
  Mutex mu_;
  // Since the last candidates. Taking a sample must cost a batch next to nothing, so samples are
  // counted later, together.
  std::vector<int64_t> samples_ MXREC_GUARDED_BY(mu_);
  KeyTally tally_ MXREC_GUARDED_BY(mu_);        // of samples before
  size_t wanted_ MXREC_GUARDED_BY(mu_) = 4096;  // samples until the next candidates
  uint64_t random_ MXREC_GUARDED_BY(mu_) = 1;
  std::vector<int64_t> last_ MXREC_GUARDED_BY(mu_);  // the candidates of last time, sorted
  double best_share_ MXREC_GUARDED_BY(mu_) = 0;      // since the last candidates
  std::atomic<uint64_t> seen_{0};                    // keys, since the share was looked at
  std::atomic<uint64_t> hot_{0};                     // of them
  std::atomic<uint32_t> batches_{0};                 // that came
  std::atomic<uint32_t> every_{1};                   // one batch in so many gives a sample
};

}  // namespace mxrec
