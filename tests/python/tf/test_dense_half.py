"""Damage to the half of a checkpoint that TensorFlow writes, found without TensorFlow."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoint_program
import numpy as np
import pytest
import tensorflow as tf
from checkpoint_program import Program
from version_support import Killer, flip, killed

import mxrec
from mx_rec.util.initialize import terminate_config_initializer
from mxrec.checkpoints import dense, files
from mxrec.cli import main

_DATA = "model-2.data-00000-of-00001"


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Path]:
    """Steps 1 (full), 2 and 3 (deltas)."""
    checkpoint_program.start()
    program = Program()
    for step in (1, 2, 3):
        program.train(step, step)
        program.save(
            os.path.join(tmp_path, "model"),
            global_step=program.step,
            is_incremental_checkpoint=True,
            save_delta=step > 1,
        )
    yield tmp_path
    terminate_config_initializer()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("name", "damage", "text"),
    [
        ("model-2.index", flip, "is not the one that was saved with the tables"),
        ("model-2.index", os.remove, "model-2.index is missing"),
        (_DATA, os.remove, f"{_DATA} is missing"),
        (_DATA, cut, f"{_DATA}: damaged: it has"),
    ],
)
def test_damage(
    saved: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    text: str,
) -> None:
    assert [v.problem for v in mxrec.versions(saved, all=True)] == [None] * 3
    damage(saved / name)
    problems = [v.problem for v in mxrec.versions(saved, all=True)]
    # Step 3 needs the tables of step 2, not its dense half.
    assert problems[0] is None and problems[2] is None and text in str(problems[1])
    assert main(["checkpoint", "verify", "--plain", str(saved)]) == 1
    output = capsys.readouterr().out
    assert text in output and output.count("intact") == 2
    flip(max((saved / "sparse-model-3" / "user").glob("data-*")))
    checkpoint_program.start()
    program = Program()  # on empty tables
    with pytest.raises(mxrec.DataLossError, match="newest version that restores is step 1"):
        program.restore(saved / "model-3")


def test_killed_while_one_replaces_another(saved: Path) -> None:
    prefix = saved / "one" / "model"
    program = Program()
    program.save(prefix)
    with files.watched(killer := Killer()):
        program.save(prefix)
    done = [(name, os.path.basename(path)) for name, path in killer.operations]
    program.train(1, 1)
    with killed(1 + done.index(("rename", "model.index"))):
        program.save(prefix)
    found = {os.path.basename(v.path): v.problem for v in mxrec.versions(saved / "one", all=True)}
    problem = found["sparse-model"]
    (aside,) = (saved / "one").glob("*.old-*")
    assert f"A restore takes {aside}" in str(problem)


def write(prefix: Path, number: int) -> None:
    """Writes a checkpoint with many tensors, of one shard or two."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        rng = np.random.default_rng(number)
        names = [f"{'scope/' * (i % 5)}tensor_{i}" for i in range(300)]
        tensors = [tf.constant(rng.normal(size=rng.integers(0, 9)), tf.float32) for _ in names]
        tensors[0] = tf.constant(["of", "strings" * 50])
        empty = [""] * len(names)
        parts = []
        for shard in range(number):
            parts.append(f"{prefix}-part{shard}")
            mine = slice(shard, None, number)
            session.run(
                tf.raw_ops.SaveV2(
                    prefix=parts[-1],
                    tensor_names=names[mine],
                    shape_and_slices=empty[mine],
                    tensors=tensors[mine],
                )
            )
        session.run(
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))
        )


@pytest.mark.parametrize("shards", [1, 2])
def test_sizes_are_those_of_tensorflow(tmp_path: Path, shards: int, seed: int) -> None:
    write(tmp_path / "many", shards)
    index = (tmp_path / "many.index").read_bytes()
    sizes = [p.stat().st_size for p in sorted(tmp_path.glob("many.data-*"))]
    assert len(sizes) == shards and dense.data_bytes(index) == sizes
    draw = random.Random(seed)
    for _ in range(200):  # any other bytes: an error of these kinds or other numbers, and an end
        damaged = bytearray(index[: draw.randrange(len(index))] if draw.random() < 0.3 else index)
        if damaged:
            damaged[draw.randrange(len(damaged))] ^= draw.randrange(1, 256)
        try:
            found = dense.data_bytes(bytes(damaged))
        except (ValueError, IndexError):
            continue
        assert all(isinstance(n, int) and n >= 0 for n in found)
