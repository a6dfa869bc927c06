"""Rules about the source tree and about what is installed from it."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import mxrec

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("core", "bindings", "python", "benchmarks", "examples", "tests", "docs", "cmake")
TEXT = {".h", ".cc", ".c", ".py", ".pyi", ".md", ".txt", ".toml", ".json", ".cmake", ".yaml", ""}
MAX_LINES = {"header": 300, "source": 600, "test": 800}
MAX_PUBLIC_HEADERS = 6


def files(*folders: str) -> Iterator[Path]:
    """Text files below `folders`, and those of the top folder when none is given."""
    found = [p for f in folders or SOURCES for p in sorted((ROOT / f).rglob("*"))]
    if not folders:
        found += sorted(ROOT.iterdir())
    for path in found:
        if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
            yield path


def matches(pattern: str, *folders: str) -> list[str]:
    """Places, as path:line: text, where a line of the tree matches `pattern`."""
    regex = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(*folders)
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if regex.search(line)
    ]


def test_the_search_itself_finds_things() -> None:
    assert matches(r'#include\s*"mxrec/', "core")
    assert ROOT / "CMakeLists.txt" in set(files())


def test_core_knows_neither_tensorflow_nor_python() -> None:
    foreign = r"tensorflow|tsl|xla|tf_c_|nanobind|pybind11|Python\.h|numpy|bindings|python/"
    assert not matches(rf'#\s*include\s*[<"]({foreign})', "core")
    assert not matches(r"\b(tensorflow|nanobind|Python)::|find_package\((Python|nanobind)", "core")


def test_bindings_do_not_know_each_other() -> None:
    assert not matches(r'#\s*include\s*[<"](nanobind|pybind11|Python\.h|numpy)', "bindings/tf")
    assert not matches(r'#\s*include\s*[<"](tensorflow|tf_c_|\.\./tf/)', "bindings/python")


def test_no_absolute_paths_of_a_machine() -> None:
    assert not matches(r"(?<![\w.$}])/(home|root|work|Users)/\w|/tmp/(?:env|build|stage)\b")


def test_no_bare_except() -> None:
    assert not matches(r"^\s*except\s*:", "python", "tests", "benchmarks", "examples")


def test_files_stay_small() -> None:
    def limit(path: Path) -> int:
        if path.relative_to(ROOT).parts[0] == "tests":
            return MAX_LINES["test"]
        return MAX_LINES["header" if path.suffix == ".h" else "source"]

    code = (p for p in files() if p.suffix in {".h", ".cc", ".py"})
    lengths = {p: len(p.read_text("utf-8").splitlines()) for p in code}
    assert not {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > limit(p)}


def test_public_headers_stay_few() -> None:
    headers = {p.name for p in (ROOT / "core" / "include").rglob("*") if p.is_file()}
    assert "table.h" in headers
    assert len(headers) <= MAX_PUBLIC_HEADERS, sorted(headers)


def test_public_headers_include_no_private_one() -> None:
    public = {p.relative_to(ROOT / "core/include") for p in (ROOT / "core/include").rglob("*.h")}
    own = matches(r'^\s*#\s*include\s*"', "core/include", "bindings")
    named = {Path(m.split('"')[1]) for m in own if m.split('"')[1].startswith("mxrec/")}
    assert named
    assert named <= public
    assert not [m for m in own if m.startswith("core/") and '"mxrec/' not in m]


def test_bindings_use_no_private_header_of_the_core_but_the_mutex() -> None:
    included = [m.split('"')[1] for m in matches(r'^\s*#\s*include\s*"[^"]*/', "bindings")]
    assert "mxrec/table.h" in included
    foreign = ("mxrec/", "tensorflow/")
    assert {name for name in included if not name.startswith(foreign)} == {"util/mutex.h"}


def test_locks_are_those_that_the_analysis_sees() -> None:
    standard = r"std::(\w*mutex|condition_variable\w*|lock_guard|scoped_lock)\b"
    found = matches(standard, "core/src", "bindings")
    assert any(m.startswith("core/src/util/mutex.h:") for m in found)
    assert not [m for m in found if not m.startswith("core/src/util/mutex.h:")]


# Locks that guard no member beside them: what they are for is said there.
GUARDING_ELSEWHERE = {
    ("core/src/table/table_impl.h", "changes"),
    ("bindings/tf/grouped_kernel.cc", "mu"),
}


def test_every_lock_says_what_it_guards() -> None:
    declaration = re.compile(r"^[^/\n]*\b(?:Shared)?Mutex (\w+)[;{]", re.MULTILINE)
    declared = {
        (str(path.relative_to(ROOT)), lock[1])
        for path in files("core/src", "bindings")
        for lock in declaration.finditer(path.read_text("utf-8"))
    }
    assert declared >= {("core/src/ssd/log_writer.h", "mu_"), ("core/src/table/shard.h", "mu")}
    assert declared >= GUARDING_ELSEWHERE
    silent = {
        (path, lock)
        for path, lock in declared
        if not re.search(rf"MXREC_GUARDED_BY\(\*?{lock}\)", (ROOT / path).read_text("utf-8"))
    }
    assert silent == GUARDING_ELSEWHERE


def test_the_package_is_not_imported_from_the_source_tree() -> None:
    location = Path(mxrec.__file__).resolve()
    assert not location.is_relative_to(ROOT / "python")
    if os.environ.get("MXREC_TEST_INSTALLED"):
        site = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
        assert location.parent.parent in site
