"""``mxrec doctor`` and what it reads from the system."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mxrec.cli import doctor, main, probes


def test_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mxrec

    assert main(["doctor", "--directory", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["mxrec"]["text"].startswith(mxrec.__version__)
    assert mxrec.stats()["kernel_target"] in found["kernels"]["text"]
    assert str(tmp_path) in found["disk space"]["text"]
    assert "MB/s" in found["disk speed"]["text"]
    assert all(finding["state"] in ("ok", "note") for finding in report["findings"])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_shown_and_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A TensorFlow that does not load."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('libfoo.so is gone')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    assert main(["doctor", "--no-disk-probe", "--plain"]) == 1
    out = capsys.readouterr().out
    assert "fail  TensorFlow" in out and "libfoo.so is gone" in out
    assert "pip install 'tensorflow-cpu>=2.15,<2.22'" in out
    assert "mxrec does not work here" in out


def test_without_tensorflow_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    finding = doctor._tensorflow()
    assert finding.state == "note" and "only the NumPy interface" in finding.text


def test_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--directory", str(tmp_path / "gone")]) == 2
    assert "is no directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "chosen", "usable"),
    [
        ("always [madvise] never\n", "madvise", True),
        ("[always] madvise never\n", "always", True),
        ("always madvise [never]\n", "never", False),
        (None, "", False),
    ],
)
def test_huge_pages(tmp_path: Path, text: str | None, chosen: str, usable: bool) -> None:
    if text is not None:
        (tmp_path / "enabled").write_text(text)
    assert probes.huge_pages(tmp_path) == probes.HugePages(chosen, usable)


MEMINFO = "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"


def system(root: Path, groups: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """Folders like /proc and /sys/fs/cgroup."""
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups}
    files |= {f"cgroup/{name}": text for name, text in limits.items()}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "proc", root / "cgroup"


def test_the_least_limit_of_nested_groups_counts(tmp_path: Path) -> None:
    limits = {"a/memory.max": "4096\n", "a/memory.current": "96\n", "a/b/memory.max": "max\n"}
    found = probes.memory(*system(tmp_path, "0::/a/b\n", limits))
    assert (found.total, found.available) == (16000 * 1024, 8000 * 1024)
    assert (found.cgroup_limit, found.cgroup_used) == (4096, 96)


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    limits = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",  # none
        "memory/x/memory.limit_in_bytes": "2048\n",
        "memory/x/memory.usage_in_bytes": "1000\n",
    }
    found = probes.memory(*system(tmp_path, "5:cpu:/y\n4:memory:/x\n", limits))
    assert (found.cgroup_limit, found.cgroup_used) == (2048, 1000)


def test_no_limit_and_nothing_known(tmp_path: Path) -> None:
    found = probes.memory(*system(tmp_path, "0::/\n", {}))
    assert found.cgroup_limit is None
    found = probes.memory(tmp_path / "gone", tmp_path / "gone")
    assert (found.total, found.available, found.cgroup_limit) == (None, None, None)


def test_io_uring_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, reason in ((errno.ENOSYS, "Linux 5.1"), (errno.EPERM, "seccomp")):
        monkeypatch.setattr(
            probes.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syscall=lambda *_: -1)
        )
        monkeypatch.setattr(probes.ctypes, "get_errno", lambda code=code: code)
        assert reason in (probes.io_uring_error() or "")
        assert doctor._io_uring(probes.io_uring_error()).state == "note"


def test_little_or_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1 << 20, total=1 << 40)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda where: usage)
    space, speed = doctor._disk(tmp_path, True)
    assert (space.state, speed.state) == ("note", "note")
    assert "too little space" in speed.text
    usage.free = 1 << 40
    monkeypatch.setattr(probes, "disk_speed", lambda *_: probes.DiskSpeed(1e6, 1e9))
    assert [finding.state for finding in doctor._disk(tmp_path, True)] == ["ok", "note"]


def test_the_probe_file_goes_also_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = probes.disk_speed(tmp_path, 8 << 20)
    assert speed.write > 0 and speed.read > 0

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(probes.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        probes.disk_speed(tmp_path, 8 << 20)
    assert list(tmp_path.iterdir()) == []
