"""What the system offers and allows: io_uring, huge pages, memory, a directory's disk."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

_SYS_IO_URING_SETUP = 425  # of every architecture, as all system calls since Linux 5.1
_IO_URING_PARAMS_BYTES = 120
_BLOCK = 4 << 20


def io_uring_error() -> str | None:
    """Why this process can set up no io_uring; None: it can."""
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(_IO_URING_PARAMS_BYTES)
    descriptor = libc.syscall(_SYS_IO_URING_SETUP, 1, params)
    if descriptor >= 0:
        os.close(descriptor)
        return None
    code = ctypes.get_errno()
    reasons = {
        errno.ENOSYS: "the kernel has none (Linux 5.1 and later do)",
        errno.EPERM: "forbidden by a seccomp filter or by /proc/sys/kernel/io_uring_disabled",
    }
    return reasons.get(code, os.strerror(code))


@dataclass(frozen=True)
class HugePages:
    """How the kernel gives huge pages.

    Attributes:
        transparent: ``always``, ``madvise`` or ``never``; empty where the kernel has none.
        usable: whether ``madvise``, by which the tables ask for them, has any effect.
    """

    transparent: str
    usable: bool


def huge_pages(root: Path = Path("/sys/kernel/mm/transparent_hugepage")) -> HugePages:
    """Reads the setting; the chosen word is the one in brackets."""
    text = _read(root / "enabled")
    chosen = text[text.find("[") + 1 : text.find("]")] if "[" in text else ""
    return HugePages(chosen, chosen in ("always", "madvise"))


@dataclass(frozen=True)
class Memory:
    """Memory in bytes; None: not known, or no limit.

    Attributes:
        total: of the machine.
        available: without swapping, as the kernel estimates.
        cgroup_limit: the least limit of this process's control group and those above it.
        cgroup_used: of the group with that limit.
        address_space_limit: ``ulimit -v``.
    """

    total: int | None
    available: int | None
    cgroup_limit: int | None
    cgroup_used: int | None
    address_space_limit: int | None


def memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Reads what this process may use, under cgroup version 1 or 2."""
    fields = dict(
        line.split(":", 1) for line in _read(proc / "meminfo").splitlines() if ":" in line
    )
    limits: list[tuple[int, int | None]] = []
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit_name, used_name = cgroups, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            limit_name, used_name = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        # A container sees its own group as the root; the path may name one outside.
        for folder in (group, *group.parents):
            text, now = _read(folder / limit_name).strip(), _read(folder / used_name).strip()
            if text.isdigit() and int(text) < 2**62:  # beyond it version 1 means no limit
                limits.append((int(text), int(now) if now.isdigit() else None))
            if folder == root:
                break
    limit, used = min(limits, key=lambda pair: pair[0]) if limits else (None, None)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return Memory(
        _kib(fields.get("MemTotal")),
        _kib(fields.get("MemAvailable")),
        limit,
        used,
        None if soft == resource.RLIM_INFINITY else soft,
    )


@dataclass(frozen=True)
class DiskSpeed:
    """Sequential speed in bytes per second, synced and past the page cache.

    Attributes:
        write: of the whole file, ``fsync`` included.
        read: after the kernel was asked to forget the file's pages; a virtual disk of a host that
            caches may show the host's memory.
    """

    write: float
    read: float


def disk_speed(directory: Path, size: int) -> DiskSpeed:
    """Writes a file, reads it again and removes it.

    Args:
        directory: where.
        size: bytes, a multiple of 4 MiB.

    Raises:
        OSError: the directory is not there, not writable, or full.
    """
    path = directory / f".mxrec-doctor-{os.getpid()}-{secrets.token_hex(4)}"
    block = secrets.token_bytes(_BLOCK)  # no compression, no holes
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        start = time.perf_counter()
        for _ in range(size // _BLOCK):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        written = time.perf_counter()
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(descriptor, 0, os.SEEK_SET)
        buffer = bytearray(_BLOCK)
        begin = time.perf_counter()
        while os.readv(descriptor, [buffer]):
            pass
        end = time.perf_counter()
    finally:
        os.close(descriptor)
        path.unlink()
    return DiskSpeed(size / (written - start), size / (end - begin))


def _kib(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024


def _read(path: Path) -> str:
    """The text of a system file; empty where there is none or it is not ours to read."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
