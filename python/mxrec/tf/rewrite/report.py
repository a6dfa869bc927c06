"""What a rewriting did, for people: graphs for TensorBoard and a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from mxrec.tf.log import logger
from mxrec.tf.rewrite.plan import Plan
from mxrec.tf.rewrite.rebuild import Rebuilt

FOLDER = "mxrec_graph_dump"


class Dump:
    """A folder ``mxrec_graph_dump/N`` of the working directory, N from 0.

    It holds the events of TensorBoard in ``before/`` and ``after/``, and ``report.txt``.

    Args:
        graph: not rewritten yet; it is written to ``before/``.

    Raises:
        RuntimeError: the folder cannot be written.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        with _writing(Path(FOLDER)):
            self.folder = _new_folder()
        self._write("before")

    def after(self, plan: Plan, rebuilt: list[Rebuilt]) -> None:
        """Writes the graph as it is now, and the report."""
        self._write("after")
        text = "\n".join(lines_of(plan, rebuilt)) + "\n"
        file = self.folder / "report.txt"
        with _writing(file):
            file.write_text(text, "utf-8")
        logger.info("graph rewriting: graphs and report are in %s", self.folder)

    def _write(self, name: str) -> None:
        folder = self.folder / name
        with _writing(folder), self._graph.as_default():
            tf.compat.v1.summary.FileWriter(str(folder), graph=self._graph).close()


def lines_of(plan: Plan, rebuilt: list[Rebuilt]) -> Iterator[str]:
    """Returns the lines of the report."""
    for site, move in plan.lookups:
        slicer = plan.slicer
        ops = slicer.ops([move.tensor])
        yield f"lookup {site.name!r} of table {site.table!r} ({_kind(site.trains)})"
        path = [move.source.inputs[0].op, move.source, *ops, site.op]
        yield f"  path: {' -> '.join(op.name for op in path)}"
        moved = ", ".join(f"{op.name} ({op.type})" for op in ops) or "nothing but the ids"
        yield f"  moved: {moved}"
        ahead = "no" if move.table is None else "yes"
        if site in plan.prepared:
            ahead = "yes, by the dataset itself"
        yield f"  keys are prepared ahead: {ahead}"
    for stay in plan.stays:
        yield f"{stay.what} stays: {stay.refusal.op!r} {stay.refusal.reason}"
    for each in rebuilt:
        yield (
            f"iterator {each.source.iterator.name!r} ({each.source.iterator.type}): "
            f"{each.components} components and {len(each.moves)} moved tensors: "
            f"{', '.join(move.tensor.name for move in each.moves)}"
        )
    if not (plan.lookups or plan.stays or rebuilt):
        yield "no lookup with modify_graph=True"


def _kind(trains: bool) -> str:
    return "training" if trains else "reading"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise RuntimeError(
            f"dump_graph=True cannot write {_shown(path)!r}: {error}. Work in a directory that can "
            "be written, and in which it is no file, or pass dump_graph=False."
        ) from error


def _shown(path: Path) -> str:
    try:
        return str(path.absolute())
    except OSError:  # there is no working directory any more
        return str(path)


def _new_folder() -> Path:
    number = 0
    while True:
        folder = Path(FOLDER, str(number)).absolute()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
