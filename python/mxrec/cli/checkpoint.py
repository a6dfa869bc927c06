"""``mxrec checkpoint``: lists, verifies, compares, compacts and exports versions."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mxrec.checkpoints import archives, catalog, foreign, naming, tools
from mxrec.checkpoints import chain as chains
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.chain import Link
from mxrec.cli.config import checkpoints_in
from mxrec.cli.console import Console, make_console
from mxrec.cli.lines import DataError
from mxrec.cli.report import human_bytes

Action = Callable[[argparse.Namespace, Console], tuple[int, Any]]
_Result = TypeVar("_Result")

_MIB = 1 << 20
_POLL_SECONDS = 0.2
_HEADER = ("version", "step", "kind", "builds on", "bytes")


def run_action(action: Action, arguments: argparse.Namespace) -> int:
    """Runs one action, and prints its result where JSON is wanted.

    Args:
        action: takes the arguments and a console; gives the exit code and what ``--json`` prints.
        arguments: what ``checkpoint_arguments`` describes.

    Returns:
        0: done; 1: damage, or a difference.

    Raises:
        DataError: the arguments name nothing that the action could work on.
        OSError: a file is damaged, or cannot be read or written.
    """
    console = make_console(arguments.plain, to_stderr=arguments.json)
    try:
        code, result = action(arguments, console)
    except ValueError as error:
        raise DataError(str(error)) from error
    if arguments.json:
        print(json.dumps(result, indent=2))
    return code


# --- Actions


def list_versions(arguments: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Lists the versions of a directory."""
    directory = _directory(os.fspath(arguments.dir))
    versions = catalog.versions(directory, all=arguments.all)
    damaged = not versions and bool(catalog.entries(directory))
    if not versions and not damaged:
        raise DataError(foreign.why_no_version(directory))
    rows = [
        (
            version.name,
            "?" if version.step < 0 else str(version.step),
            version.kind or "?",
            "" if version.parent is None else str(version.parent),
            human_bytes(version.bytes),
        )
        for version in versions
    ]
    console.table(directory, _HEADER, rows)
    if damaged:
        console.line("No version restores; --all lists them, and why.")
    for version in versions:
        if version.problem is not None:
            console.line(f"{version.name}: {version.problem}")
    return 0, {"directory": directory, "versions": [version._asdict() for version in versions]}


def verify(arguments: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Reads every byte of one version or all."""
    path = os.fspath(arguments.dir)
    if arguments.step is None and _version_at(path) is None:
        directory = _existing(path)
        paths = catalog.entries(directory)
        if not paths:
            raise DataError(foreign.why_no_version(directory))
    else:
        paths = [_chosen(path, arguments.step)]
    check = catalog.Check(every_byte=True)
    found = []
    for path in paths:
        # A link that others build on is read once.
        work = functools.partial(check.version, path)
        found.append(_watched(console, path, _links(path), work))
    damaged = [version for version in found if version.problem is not None]
    for version in found:
        console.line(f"{version.path}: {version.problem or 'intact'}")
    return int(bool(damaged)), {
        "versions": [version._asdict() for version in found],
        "damaged": len(damaged),
    }


def compact(arguments: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Turns a delta into a full version."""
    path = _chosen(os.fspath(arguments.dir), arguments.step)
    chain = chains.resolve(path)
    before = [link.path for link in chain]
    if len(chain) == 1:
        console.line(f"{path} is a full version already.")
    else:
        _watched(console, path, chain, lambda: tools.compact(path), writes=True)
        console.line(
            f"{path} is a full version of step {chain[-1].manifest.step} now; it does not need "
            f"{', '.join(before[:-1])} any more."
        )
    return 0, {"path": path, "step": chain[-1].manifest.step, "merged": before}


def diff(arguments: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Compares the rows of two versions."""
    here = os.fspath(arguments.dir)
    there = here if arguments.other is None else os.fspath(arguments.other)
    paths = _chosen(here, arguments.from_step), _chosen(there, arguments.to_step)
    if os.path.realpath(paths[0]) == os.path.realpath(paths[1]):
        raise DataError(_one_version(*paths))
    first, second = map(chains.resolve, paths)
    names = [set(chain[-1].manifest.tables) for chain in (first, second)]
    differences = []
    for name in sorted(names[0] & names[1]):
        label = f"comparing {name}"
        work = functools.partial(tools.difference, first, second, name)
        differences.append(_watched(console, label, [*first, *second], work, name))
    only = {"first": sorted(names[0] - names[1]), "second": sorted(names[1] - names[0])}
    console.table(
        f"{first[-1]} -> {second[-1]}",
        ("table", "rows", "rows then", "added", "removed", "changed", "largest difference"),
        [
            (
                d.name,
                *(f"{n:,}" for n in (*d.rows, d.added, d.removed, d.changed)),
                f"{d.largest:.6g}",
            )
            for d in differences
        ],
    )
    for which, tables in only.items():
        if tables:
            console.line(f"only in the {which} version: {', '.join(tables)}")
    same = all(d.same for d in differences) and not any(only.values())
    return int(not same), {
        "first": first[-1].path,
        "second": second[-1].path,
        "tables": [dataclasses.asdict(d) for d in differences],
        "only_in": only,
        "same": same,
    }


def export(arguments: argparse.Namespace, console: Console) -> tuple[int, Any]:
    """Writes tables as NumPy archives."""
    path = _chosen(os.fspath(arguments.dir), arguments.step)
    chain = chains.resolve(path)
    there = chain[-1].manifest.tables
    missing = [name for name in arguments.table or () if name not in there]
    if missing:
        raise DataError(
            f"{path} has no table {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, sorted(there)))}."
        )
    out = os.path.dirname(path) if arguments.out is None else os.fspath(arguments.out)
    os.makedirs(out or os.curdir, exist_ok=True)
    written = {}
    for name in arguments.table or sorted(there):
        target = os.path.join(out, f"{naming.table_directory(name)}.npz")
        work = functools.partial(_archive, chain, name, target)
        rows = _watched(console, f"exporting {name}", chain, work, name, writes=True)
        console.line(f"{target}: {rows:,} rows")
        written[name] = {"path": target, "rows": rows}
    return 0, {"version": path, "step": chain[-1].manifest.step, "tables": written}


def _archive(chain: Sequence[Link], name: str, target: str) -> int:
    with tools.loaded(chain, name) as table:
        return archives.write_archive(table, target)


# --- What the arguments name


def _one_version(path: str, again: str) -> str:
    """Why there is nothing to compare, and which versions there are."""
    steps = {catalog.step_of(each) for each in catalog.entries(os.path.dirname(path) or os.curdir)}
    others = sorted(step for step in steps - {catalog.step_of(again)} if step is not None)
    fix = (
        f"name another step beside it by --from STEP or --to STEP (there are "
        f"{', '.join(map(str, others))})"
        if others
        else "there is no other beside it; name the directory of the second one by --other DIR"
    )
    return f"diff needs two versions, and both are {again}: {fix}."


def _version_at(path: str) -> str | None:
    """The version that a path names itself: its directory, or a TensorFlow prefix."""
    if manifests.is_there(path):
        return path
    parent, base = os.path.split(path)
    sparse = os.path.join(parent, naming.SPARSE_PREFIX + base)
    return sparse if base and manifests.is_there(sparse) else None


def _directory(path: str) -> str:
    """The directory of versions that a path names, or that has the version that it names."""
    version = _version_at(path)
    return _existing(path) if version is None else os.path.dirname(version) or os.curdir


def _existing(path: str) -> str:
    """A directory that is there, or that of the checkpoints of a run that is there."""
    parent, base = os.path.split(path)
    of_prefix = foreign.problem_of(os.path.join(parent, naming.SPARSE_PREFIX + base))
    if base and of_prefix is not None:
        raise DataError(of_prefix)
    if not os.path.isdir(path):
        raise DataError(f"{path} is no directory, no version and no prefix of a checkpoint.")
    if catalog.entries(path):
        return path
    of_run = os.fspath(checkpoints_in(Path(path)))
    if not os.path.isdir(of_run):
        raise DataError(f"{path} is a run that has saved nothing: {of_run} is not there.")
    return of_run


def _chosen(path: str, step: int | None) -> str:
    version = _version_at(path)
    if version is None:
        return catalog.of_step(_existing(path), step)
    if step is not None and catalog.step_of(version) != step:
        raise DataError(f"{version} is of step {catalog.step_of(version)}, not {step}.")
    return version


def _links(path: str) -> list[Link]:
    """The chain of a version as far as it can be followed; for progress only."""
    try:
        return chains.resolve(path)
    except (OSError, ValueError):
        return []


# --- Progress


def _watched(
    console: Console,
    label: str,
    links: Sequence[Link],
    work: Callable[[], _Result],
    table: str | None = None,
    writes: bool = False,
) -> _Result:
    """Runs ``work`` in a thread and shows how many bytes it has read and written of those due."""
    paths = [link.path if table is None else link.table(table) for link in links]
    total = sum(map(catalog.size_of, paths))
    if writes:
        # What is written is about as large as the full version that was read.
        total += catalog.size_of(paths[0]) if paths else 0
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    thread = threading.Thread(target=run, name="mxrec-checkpoint")
    before = _moved_bytes(writes)
    whole = max(1, total // _MIB)
    with console.progress(f"{label} (MiB)", whole) as bar:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            moved = _moved_bytes(writes) - before
            bar.update(min(moved // _MIB, whole), human_bytes(moved))
        if results:
            bar.update(whole, human_bytes(total))
    if errors:
        raise errors[0]
    return results[0]


def _moved_bytes(writes: bool) -> int:
    """Bytes that this process has read, and written, so far; 0 where the system does not say."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            counts = dict(line.split(": ") for line in file.read().splitlines())
    except OSError:
        return 0
    return int(counts["rchar"]) + (int(counts["wchar"]) if writes else 0)
