// Threads whose work can wait: where processors are short, they leave them to calls that train.
#pragma once

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <system_error>
#include <thread>
#include <utility>

namespace mxrec {

// Of the calling thread, for good. No more than a hint: without it the thread works as any other.
inline void YieldToOthers() {
  constexpr int kNicer = 4;  // two fifths of what a thread gets that trains
  const auto self = static_cast<id_t>(::syscall(SYS_gettid));
  ::setpriority(PRIO_PROCESS, self, ::getpriority(PRIO_PROCESS, self) + kNicer);
}

// Runs `work` on a thread of its own that yields to others, and waits for it. `work` does not
// throw.
template <class Work>
void RunYielding(Work&& work) {
  std::thread thread;
  try {
    thread = std::thread([&] {
      YieldToOthers();
      work();
    });
  } catch (const std::system_error&) {
    work();  // no thread to be had
    return;
  }
  thread.join();
}

}  // namespace mxrec
