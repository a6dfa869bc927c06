// Has the system refuse a call, as systems do that lack it or forbid it.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>

namespace mxrec::testing {

struct Refused {
  uint32_t number;  // SYS_…
  uint32_t error;   // errno
  // Calls whose argument of this number has one of these bits; all, without bits.
  uint32_t argument = 0;
  uint32_t bits = 0;
};

// Runs a body in a thread of its own, in which the call is refused; so it is in threads that this
// one starts. False: the system does not allow it, and the body has not run.
inline bool WithRefused(const Refused& refused, const std::function<void()>& body) {
  bool ran = false;
  std::thread thread([&] {
    const auto argument = static_cast<uint32_t>(offsetof(seccomp_data, args)) +
                          refused.argument * static_cast<uint32_t>(sizeof(uint64_t));
    const uint32_t any = refused.bits == 0 ? 1 : 0;
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offsetof(seccomp_data, nr))),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused.number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        any ? sock_filter(BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0))
            : sock_filter(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, refused.bits, 0, 1)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | refused.error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return;
    ran = true;
    body();
  });
  thread.join();
  return ran;
}

}  // namespace mxrec::testing
