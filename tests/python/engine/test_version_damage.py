"""Random bytes of a chain flipped, and files cut: a named error, never other rows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from version_support import data_file, fresh, make_table, state, train

import mxrec
from mxrec.cli import main


def run(rng, directory, damages):
    tables = [
        make_table("plain"),
        make_table("exact", admission=mxrec.Admission(2), eviction=mxrec.Eviction(max_age=20)),
        make_table("sketch", admission=mxrec.Admission(2, mode="sketch", expected_keys=4096)),
    ]
    for step in range(1, 6):
        for table in tables:
            train(table, step, size=60)
        mxrec.save(tables, directory, step=step, delta=step > 1)
    wanted = state(tables)
    paths = sorted(p for p in Path(directory).rglob("*") if p.is_file())
    sizes = np.array([p.stat().st_size for p in paths], float)
    # Small files as often as large ones, and any byte of them.
    chances = np.sqrt(sizes) / np.sqrt(sizes).sum()
    others = fresh(tables)
    before = state(others)
    for number in range(damages):
        path = paths[rng.choice(len(paths), p=chances)]
        whole = path.read_bytes()
        at = int(rng.integers(len(whole)))
        if rng.random() < 0.8:
            damaged = bytearray(whole)
            damaged[at] ^= int(rng.integers(1, 256))
        else:
            damaged = whole[:at]
        path.write_bytes(bytes(damaged))
        with pytest.raises((mxrec.DataLossError, ValueError)) as caught:
            mxrec.restore(others, directory)
        text = str(caught.value)
        version = os.path.relpath(path, directory).split(os.sep)[0]
        assert version in text, (number, str(path), at, text)
        assert state(others) == before
        path.write_bytes(whole)
    assert mxrec.restore(others, directory) == 5
    assert state(others) == wanted


def test_random_damage(rng, tmp_path):
    run(rng, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_10_000_random_damages(part, seed, tmp_path):
    run(np.random.default_rng([seed, part]), tmp_path, 1000)


@pytest.mark.parametrize("what", ["table", "part", "checkpoint-manifest.json"])
def test_symbolic_links_in_a_version_are_refused(what, tmp_path):
    table = make_table("user")
    for step in (1, 2):
        train(table, step)
        mxrec.save(table, tmp_path / "versions", step=step)
    version = tmp_path / "versions" / "v000002-step-2"
    wanted = state([table])
    linked = {"table": version / "user", "part": Path(data_file(str(version), "user"))}.get(
        what, version / what
    )
    outside = tmp_path / "outside"
    linked.rename(outside)
    linked.symlink_to(outside)
    others = fresh([table])
    with pytest.raises(mxrec.DataLossError, match="is a symbolic link") as caught:
        mxrec.restore(others, tmp_path / "versions")
    assert f"{linked} is a symbolic link, to {outside}" in str(caught.value)
    assert "restores is step 1" in str(caught.value)
    assert len(others[0]) == 0
    assert "symbolic link" in mxrec.versions(tmp_path / "versions", all=True)[1].problem
    assert main(["checkpoint", "export", str(version), "--out", str(tmp_path / "out")]) == 1
    linked.unlink()
    outside.rename(linked)
    version.rename(outside)
    version.symlink_to(outside)  # the whole of one may be elsewhere
    mxrec.restore(others, tmp_path / "versions")
    assert state(others) == wanted
