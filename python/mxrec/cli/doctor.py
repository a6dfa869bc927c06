"""The command ``mxrec doctor``: is this machine fit, and what will mxrec use of it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mxrec.bench import machine
from mxrec.cli import probes
from mxrec.cli.arguments_common import add_output, command
from mxrec.cli.console import make_console
from mxrec.cli.lines import DataError
from mxrec.cli.report import human_bytes

_PROBE_BYTES = 64 << 20
_LITTLE_SPACE = 1 << 30
_SLOW_DISK = 50e6  # bytes/s; below it a checkpoint of some GiB takes minutes
_TF_SECONDS = 120

# Importing mxrec.tf loads the ops.
_TF_PROGRAM = """
import tensorflow as tf
print("version", tf.__version__, flush=True)
import mxrec.tf
print("loads", flush=True)
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: of what was looked at.
        state: ``ok``; ``note``: works, with a restriction; ``fail``: mxrec does not work so.
        text: what was found.
        fix: what to do about it; empty when nothing is wrong.
    """

    name: str
    state: str
    text: str
    fix: str = ""


def add_doctor(commands: Any) -> None:
    """Adds the command to a parser's commands."""
    parser = command(
        commands,
        "doctor",
        _run,
        summary="check versions, processor, memory and disk",
        description="Looks at what mxrec depends on: versions, processor features and the kernels "
        "chosen for them, huge pages, io_uring, memory limits, free space and speed of a disk. "
        "The exit code is 1 when something keeps mxrec from working.",
        examples=(
            "mxrec doctor",
            "mxrec doctor --directory /data/checkpoints   # the disk of the checkpoints",
            "mxrec doctor --json | jq '.findings[] | select(.state != \"ok\")'",
        ),
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="whose disk to look at (default: the working directory)",
    )
    parser.add_argument(
        "--no-disk-probe",
        action="store_true",
        help=f"do not write {human_bytes(_PROBE_BYTES)} to measure the disk's speed",
    )
    add_output(parser, json_help="print one JSON object")


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.directory.is_dir():
        raise DataError(f"--directory: {arguments.directory} is no directory")
    findings = list(find(arguments.directory, probe_disk=not arguments.no_disk_probe))
    failed = any(finding.state == "fail" for finding in findings)
    if arguments.json:
        print(json.dumps({"ok": not failed, "findings": [asdict(f) for f in findings]}, indent=2))
        return int(failed)
    console = make_console(arguments.plain)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        console.line(f"{finding.state:>4}  {finding.name:<{width}}  {finding.text}")
        if finding.fix:
            console.line(f"{'':>4}  {'':<{width}}  -> {finding.fix}")
    notes = sum(finding.state == "note" for finding in findings)
    console.line(
        "mxrec does not work here; see the lines marked fail."
        if failed
        else f"mxrec works here{f', with {notes} notes' if notes else ''}."
    )
    return int(failed)


def find(directory: Path, *, probe_disk: bool) -> Iterator[Finding]:
    """Makes all findings.

    Args:
        directory: whose disk is looked at.
        probe_disk: whether 64 MiB are written there to measure its speed.
    """
    yield from _versions()
    yield from _processor()
    yield _huge_pages(probes.huge_pages())
    yield _io_uring(probes.io_uring_error())
    yield _memory(probes.memory())
    yield from _disk(directory, probe_disk)


def _versions() -> Iterator[Finding]:
    import numpy

    import mxrec
    from mxrec import _mxrec

    yield Finding("mxrec", "ok", f"{mxrec.__version__} ({_mxrec.compiler()})")
    yield Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}")
    yield Finding("NumPy", "ok", numpy.__version__)
    yield _tensorflow()
    for name, use in (("matplotlib", "plots"), ("rich", "colours and live progress")):
        if find_spec(name) is None:
            fix = "in a checkout of mxrec: pip install '.[cli]'"
            yield Finding(name, "note", f"not installed: no {use}", fix)
        else:
            yield Finding(name, "ok", _version_of(name))


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "installed, version unknown"


def _tensorflow() -> Finding:
    name = "TensorFlow"
    if find_spec("tensorflow") is None:
        fix = "in a checkout of mxrec: pip install '.[tensorflow]'"
        return Finding(name, "note", "not installed: only the NumPy interface works", fix)
    # In a process of its own: a library that does not fit may end the process.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TF_PROGRAM],
            capture_output=True,
            text=True,
            timeout=_TF_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        fix = "see what keeps this Python from loading it: python -c 'import mxrec.tf'"
        return Finding(name, "fail", f"importing took more than {_TF_SECONDS} s", fix)
    told = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    found = told.get("version", "")
    if "loads" not in told:
        ends = f"ended with exit code {done.returncode}"
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ends
        fix = "pip install 'tensorflow-cpu>=2.15,<2.22'"
        return Finding(name, "fail", f"{found or 'installed'}: {reason}", fix)
    return Finding(name, "ok", found)


def _processor() -> Iterator[Finding]:
    from mxrec import _mxrec

    facts = machine.describe()
    vector = facts.get("vector instructions", "")
    yield Finding("processor", "ok", f"{facts.get('processor', '')}; {facts.get('cores', '')}")
    target = _mxrec.kernel_target()
    text = f"{target}{f' (the processor has {vector})' if vector else ''}"
    if target.upper() in ("EMU128", "SCALAR"):
        fix = "use an x86-64 processor with SSE4.1 or better, or an aarch64 one"
        yield Finding("kernels", "note", text, fix)
    else:
        yield Finding("kernels", "ok", text)
    if "caches" in facts:
        yield Finding("caches", "ok", facts["caches"])
    yield Finding("threads", "ok", f"{_mxrec.num_threads()} work on a batch")


def _huge_pages(found: probes.HugePages) -> Finding:
    text = f"transparent ones: {found.transparent or 'not in this kernel'}"
    if found.usable:
        return Finding("huge pages", "ok", text)
    fix = "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    return Finding("huge pages", "note", f"{text}; lookups in large tables are slower", fix)


def _io_uring(error: str | None) -> Finding:
    if error is None:
        return Finding("io_uring", "ok", "available")
    return Finding("io_uring", "note", f"not available: {error}")


def _memory(found: probes.Memory) -> Finding:
    parts = []
    if found.total is not None and found.available is not None:
        parts.append(f"{human_bytes(found.available)} of {human_bytes(found.total)} available")
    if found.cgroup_limit is not None:
        used = "" if found.cgroup_used is None else f", {human_bytes(found.cgroup_used)} in use"
        parts.append(f"control group limit {human_bytes(found.cgroup_limit)}{used}")
    if found.address_space_limit is not None:
        text = f"address space limited to {human_bytes(found.address_space_limit)} (ulimit -v)"
        fix = "ulimit -v unlimited: tables reserve address space ahead of what they use"
        return Finding("memory", "note", "; ".join([*parts, text]), fix)
    return Finding("memory", "ok", "; ".join(parts) or "not known")


def _disk(directory: Path, probe: bool) -> Iterator[Finding]:
    where = directory.resolve()
    usage = shutil.disk_usage(where)
    text = f"{human_bytes(usage.free)} of {human_bytes(usage.total)} free at {where}"
    if usage.free < _LITTLE_SPACE:
        fix = "make room: a save needs space for a whole checkpoint beside the one it replaces"
        yield Finding("disk space", "note", text, fix)
    else:
        yield Finding("disk space", "ok", text)
    if not probe:
        return
    if usage.free < 2 * _PROBE_BYTES:
        yield Finding("disk speed", "note", "not measured: too little space")
        return
    try:
        speed = probes.disk_speed(where, _PROBE_BYTES)
    except OSError as error:
        fix = "choose a --directory that this user may write to"
        yield Finding("disk speed", "note", f"not measured: {error}", fix)
        return
    text = (
        f"write {speed.write / 1e6:,.0f} MB/s, read {speed.read / 1e6:,.0f} MB/s "
        f"({human_bytes(_PROBE_BYTES)}, sequential, synced)"
    )
    if min(speed.write, speed.read) < _SLOW_DISK:
        yield Finding("disk speed", "note", text, "keep checkpoints on a faster disk")
    else:
        yield Finding("disk speed", "ok", text)
