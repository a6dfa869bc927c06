// ChangedPlaces: which counts of a shard have changed since the version that the next delta builds
// on, and which had at the instant of the save that is being written.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace mxrec {

class ChangedPlaces {
 public:
  // From here on changes of so many places are noted, or no longer. False: no memory; as it was.
  bool Track(bool on, size_t places) {
    try {
      now_.assign(on ? places : 0, false);
    } catch (const std::bad_alloc&) {
      return false;
    }
    tracks_ = on;
    return true;
  }
  // There are more places. May throw; then nothing has happened.
  void Grow(size_t places) {
    if (tracks_) now_.resize(places);
  }
  void Mark(size_t place) {
    if (tracks_) now_[place] = true;
  }

  // Fixes the instant. May throw; then nothing has happened.
  void BeginSave() {
    if (!tracks_) return;
    std::vector<bool> none(now_.size(), false);
    then_ = std::exchange(now_, std::move(none));
  }
  // Whether it had changed at the instant.
  bool Then(size_t place) const { return place < then_.size() && then_[place]; }
  // follows: the next delta builds on this save.
  void EndSave(bool follows) {
    for (size_t place = 0; tracks_ && !follows && place < then_.size(); ++place) {
      if (then_[place]) now_[place] = true;
    }
    std::vector<bool>().swap(then_);
  }

 private:
  bool tracks_ = false;
  std::vector<bool> now_;   // while tracks_, of all places
  std::vector<bool> then_;  // of the running save
};

}  // namespace mxrec
