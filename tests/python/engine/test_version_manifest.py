"""Damage of the manifest of a version, byte by byte, and what it must not be able to say."""

from __future__ import annotations

import json
import os

import pytest
from version_support import fresh, make_table, state, train

import mxrec
from mxrec import _mxrec
from mxrec.checkpoints import manifest as manifests
from mxrec.checkpoints.manifest import Dense, Manifest, Parent, SavedTable

NAME = "checkpoint-manifest.json"
UID = "0123456789abcdef" * 2


@pytest.fixture
def version(tmp_path):
    """A directory with a full version and a delta; gives the delta's manifest."""
    tables = [make_table("user")]
    for step in (1, 2):
        train(tables[0], step)
        mxrec.save(tables, tmp_path, step=step, delta=step > 1)
    return os.path.join(mxrec.versions(tmp_path)[-1].path, NAME)


def read_error(path):
    with pytest.raises((mxrec.DataLossError, ValueError)) as caught:
        manifests.read(os.path.dirname(path))
    assert path in str(caught.value)
    return caught.value


def test_every_byte_flipped_is_an_error_that_names_the_file(version):
    with open(version, "rb") as file:
        whole = file.read()
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            with pytest.raises(mxrec.DataLossError, match="damaged"):
                manifests.decode(bytes(damaged), version)


def test_every_cut_is_an_error_that_names_the_file(version):
    with open(version, "rb") as file:
        whole = file.read()
    for length in range(len(whole)):
        with pytest.raises(mxrec.DataLossError) as caught:
            manifests.decode(whole[:length], version)
        assert version in str(caught.value)
    with pytest.raises(mxrec.DataLossError):
        manifests.decode(whole + b"\n", version)


def test_a_damaged_manifest_restores_nothing(version, tmp_path):
    with open(version, "r+b") as file:
        file.seek(40)
        file.write(b"\0")
    table = fresh([make_table("user")])
    before = state(table)
    with pytest.raises(mxrec.DataLossError, match=r"restores is step 1 in") as caught:
        mxrec.restore(table, tmp_path)
    assert version in str(caught.value) and state(table) == before


def sealed(fields):
    text = json.dumps(fields).encode() + b"\n"
    return text + b"#xxh3-64: %016x\n" % _mxrec.checksum(text)


def fields_of(path):
    with open(path, "rb") as file:
        return json.loads(file.read()[:-27])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": -1}, "step -1"),
        ({"step": 2**63}, "step 9223372036854775808"),
        ({"step": True}, "step True"),
        ({"kind": "full"}, "do not fit"),
        ({"parent": None}, "do not fit"),
        ({"parent": {"name": "../elsewhere", "step": 1}}, "parent's name '../elsewhere'"),
        ({"parent": {"name": "/etc", "step": 1}}, "parent's name"),
        ({"parent": {"name": "..", "step": 1}}, "parent's name"),
        ({"parent": {"name": "a\0b", "step": 1}}, "parent's name"),
        ({"parent": {"name": "", "step": 1}}, "parent's name"),
        ({"parent": {"name": "x" * 256, "step": 1}}, "parent's name"),
        ({"parent": 7}, "int"),
        ({"tables": {"user": {"uid": "xyz", "parent": UID}}}, "uid 'xyz'"),
        ({"tables": {"user": {"uid": UID, "parent": ""}}}, "another kind"),
        ({"tables": {"": {"uid": UID, "parent": UID}}}, "table name"),
        ({"tables": []}, "list"),
        ({"saved": float("nan")}, "saved"),
        ({"dense": {"step": 1, "step_name": 5, "index": None}}, "step_name"),
        ({"dense": {"step": 1, "step_name": None, "index": "0"}}, "index"),
        ({"format": 0}, "format 0"),
        ({"format": "2"}, "format"),
    ],
)
def test_what_no_save_would_write_is_damage(version, change, text):
    fields = {
        "format": 2,
        "kind": "delta",
        "step": 2,
        "saved": 1.5,
        "parent": {"name": "v000001-step-1", "step": 1},
        "tables": {"user": {"uid": UID, "parent": UID}},
        "dense": None,
    }
    assert manifests.decode(sealed(fields), version).kind == "delta"
    with pytest.raises(mxrec.DataLossError, match=text):
        manifests.decode(sealed({**fields, **change}), version)
    for name in fields:
        with pytest.raises(mxrec.DataLossError):
            manifests.decode(sealed({k: v for k, v in fields.items() if k != name}), version)


def test_nesting_without_end_is_damage(version):
    with open(version, "wb") as file:
        file.write(b"[" * 100_000)
    assert isinstance(read_error(version), mxrec.DataLossError)


def test_a_later_format_is_refused_by_its_number(version):
    fields = fields_of(version)
    with open(version, "wb") as file:
        file.write(sealed({**fields, "format": 3}))
    error = read_error(version)
    assert isinstance(error, ValueError) and "has format 3" in str(error)


def test_manifests_of_the_first_format_are_read(tmp_path):
    text = {
        "format": 1,
        "step": 7,
        "dense_step": 7,
        "dense_step_name": "global_step",
        "tables": {"user": UID},
    }
    (tmp_path / NAME).write_text(json.dumps(text, indent=1) + "\n")
    found = manifests.read(str(tmp_path))
    assert found.kind == "full" and found.step == 7 and found.uids == {"user": UID}
    assert found.dense == Dense(7, "global_step", None) and found.format == 1


def test_what_is_written_is_read(tmp_path):
    for manifest in (
        Manifest(0, {}),
        Manifest(2**63 - 1, {"ü": SavedTable(UID)}, dense=Dense(-5, "a/b", "0" * 16), saved=1.25),
        Manifest(5, {"a": SavedTable(UID, UID[::-1])}, parent=Parent("sparse-model-4", 4)),
    ):
        manifests.write(str(tmp_path), manifest)
        assert manifests.read(str(tmp_path)) == manifest


def test_links_that_go_round_in_a_circle(tmp_path):
    table = make_table("user")
    train(table, 1)
    mxrec.save(table, tmp_path, step=1)
    path = mxrec.versions(tmp_path)[0].path
    uid = manifests.read(path).tables["user"].uid
    circle = Manifest(1, {"user": SavedTable(uid, uid)}, parent=Parent(os.path.basename(path), 1))
    manifests.write(path, circle)
    with pytest.raises(mxrec.DataLossError, match=r"builds on it"):
        mxrec.restore(fresh([table]), tmp_path)
    assert "builds on" in mxrec.versions(tmp_path, all=True)[0].problem
