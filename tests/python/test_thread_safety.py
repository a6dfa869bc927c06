"""The check of lock annotations finds what it is for. ./run lint makes the check of the core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLANG = shutil.which("clang++-16")
SOURCE = """
#include "util/mutex.h"
#include "util/shared_mutex.h"

class Counter {
 public:
  void Grow() {
    mxrec::MutexLock lock(mu_);
    ++count_;
    %(in_grow)s
  }
  void Wait() {
    mxrec::MutexLock lock(mu_);
    while (count_ == 0) changed_.Wait(mu_);
  }
  bool Try() {
    if (!mu_.try_lock()) return false;
    const mxrec::MutexLock lock(mu_, std::adopt_lock);
    return ++count_ > 0;
  }
  int named() {
    mxrec::SharedMutex& again = shared_;
    const mxrec::SharedLock lock(again);
    %(names)s
    return seen_;
  }
  void Name() {
    mxrec::SharedMutex& again = shared_;
    const mxrec::ExclusiveLock lock(again);
    mxrec::SameLock(again, shared_);
    ++seen_;
  }
  int shared() {
    shared_.lock_shared();
    %(in_shared)s
    const int seen = seen_;
    shared_.unlock_shared();
    return seen;
  }
  void See() {
    %(in_see)s
    shared_.lock();
    ++seen_;
    shared_.unlock();
  }

 private:
  mxrec::Mutex mu_;
  mxrec::Condition changed_;
  int count_ MXREC_GUARDED_BY(mu_) = 0;
  mxrec::SharedMutex shared_;
  int seen_ MXREC_GUARDED_BY(shared_) = 0;
};
"""


def check(**wrong: str) -> subprocess.CompletedProcess[str]:
    """Compiles SOURCE with `wrong` put in, as the CMake preset thread-safety does."""
    right = {"in_grow": "", "in_shared": "", "in_see": ""}
    right["names"] = "mxrec::SameLockShared(again, shared_);"
    source = SOURCE % (right | wrong)
    flags = ["-std=c++20", "-Wthread-safety", "-Werror=thread-safety", "-fsyntax-only"]
    includes = ["-I", str(ROOT / "core/src"), "-I", str(ROOT / "core/include")]
    return subprocess.run(
        [str(CLANG), *flags, *includes, "-x", "c++", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


pytestmark = pytest.mark.skipif(CLANG is None, reason="clang++-16 is not installed")


def test_right_code_passes() -> None:
    result = check()
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"in_grow": "lock.unlock(); ++count_;"}, "writing variable 'count_' requires holding"),
        ({"in_grow": "mu_.lock();"}, "acquiring mutex 'mu_' that is already held"),
        ({"in_see": "changed_.Wait(mu_);"}, "calling function 'Wait' requires holding mutex"),
        ({"in_see": "if (seen_ > 0) return;"}, "reading variable 'seen_' requires holding"),
        ({"in_shared": "++seen_;"}, "requires holding shared_mutex 'shared_' exclusively"),
        ({"names": ""}, "reading variable 'seen_' requires holding"),
        (
            {"names": "mxrec::SameLock(again, shared_);"},
            "requires holding shared_mutex 'again' excl",
        ),
        ({"in_shared": "if (seen_ > 0) return 0;"}, "shared_' is not held on every path"),
    ],
)
def test_wrong_code_does_not(wrong: dict[str, str], message: str) -> None:
    result = check(**wrong)
    assert result.returncode != 0
    assert message in result.stderr
