"""The machine that a run was taken on, from /proc and /sys."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Instruction sets that the engine's kernels choose between.
_VECTOR = ("sse4_1", "avx2", "avx512f", "asimd")


def describe() -> dict[str, str]:
    """Name and text of what the figures depend on; what the system does not tell is left out."""
    lines = _read("/proc/cpuinfo").splitlines()
    info = dict(reversed([_split(line) for line in lines if ":" in line]))
    flags = (info.get("flags") or info.get("Features") or "").split()
    memory = dict(_split(line) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    kib = int(memory.get("MemTotal", "0 kB").split()[0])
    found = {
        "processor": info.get("model name", platform.machine()),
        "cores": f"{len(os.sched_getaffinity(0))} for this process, {os.cpu_count()} in all",
        "vector instructions": ", ".join(name for name in _VECTOR if name in flags),
        "caches": _caches(),
        "memory": f"{kib / 2**20:.1f} GiB" if kib else "",
        "transparent huge pages": _read("/sys/kernel/mm/transparent_hugepage/enabled").strip(),
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
    }
    return {name: text for name, text in found.items() if text}


def _caches() -> str:
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _read(folder / "level").strip(), _read(folder / "type").strip()
        shared = _read(folder / "shared_cpu_list").strip()
        mark = {"Data": "d", "Instruction": "i"}.get(kind, "")
        found.append(f"L{level}{mark} {_read(folder / 'size').strip()} (processors {shared})")
    return ", ".join(found)


def _split(line: str) -> tuple[str, str]:
    name, _, text = line.partition(":")
    return name.strip(), text.strip()


def _read(path: str | Path) -> str:
    """The text of a system file; empty where there is none."""
    file = Path(path)
    return file.read_text(errors="replace") if file.exists() else ""
