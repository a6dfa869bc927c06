"""The command line itself: help without extras, errors and exit codes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mxrec.cli import main
from mxrec.cli.arguments import make_parser
from mxrec.cli.config import table_names
from mxrec.cli.console import PlainConsole
from mxrec.cli.report import human_bytes

_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {blocked!r} else find_spec(name)
from mxrec.cli import main
sys.exit(main({arguments!r}))
"""


def run_without(blocked: set[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    code = _BLOCK.format(blocked=blocked, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_needs_no_extras() -> None:
    done = run_without({"tensorflow", "matplotlib", "rich"}, ["--help"])
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert "train" in done.stdout


def test_missing_tensorflow_says_what_to_install() -> None:
    done = run_without({"tensorflow"}, ["demo"])
    assert done.returncode == 3
    assert "pip install '.[tensorflow]'" in done.stderr


def test_write_tsv_needs_no_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    done = run_without(
        {"tensorflow", "matplotlib", "rich"},
        ["demo", "--impressions", "500", "--write-tsv", str(path)],
    )
    assert done.returncode == 0, done.stderr
    lines = path.read_text().splitlines()
    assert len(lines) == 500
    assert all(line.count("\t") == 39 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--impressions", "many"], "--impressions is 'many'"),
        (["demo", "--dim", "0"], "--dim is 0; it must be in [1, 1024]"),
        (["demo", "--holdout", "1.5"], "--holdout is 1.5; it must be between 0.0 and 1.0"),
        (["demo", "--admission", "0"], "--admission is 0; it must be in [1, 2147483647]"),
        (["demo", "--admission", "2.5"], "--admission is '2.5'; it must be an integer"),
        (["demo", "--evict-after", "-1"], "--evict-after is -1; it must be in [0, 2147483647]"),
        (["train", "--data", "a", "--evict-after", "1h"], "--evict-after is '1h'; it must be"),
        (["demo", "--timestamp-column", "t"], "--timestamp-column"),
        (["train"], "--data"),
        (["unknown"], "unknown"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_examples_of_the_help_are_commands() -> None:
    parser = make_parser()
    (commands,) = (
        action.choices
        for action in parser._subparsers._group_actions  # type: ignore[union-attr]
        if action.choices
    )
    texts = [parser.format_help(), *(command.format_help() for command in commands.values())]
    assert len(texts) >= 7
    for text in texts:
        assert "exit codes: 0 done, 1 failure" in text
        lines = [line.split("|")[0].split(">")[0] for line in text.splitlines()]
        examples = [line for line in lines if line.startswith("  mxrec ")]
        assert examples, text
        for example in examples:
            arguments = shlex.split(example, comments=True)[1:]
            assert parser.parse_args(arguments).command == arguments[0]


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: mxrec" in capsys.readouterr().out


def test_table_names_are_valid_and_distinct() -> None:
    names = table_names(("C1", "a b", "a-b", "größe", "..", "x" * 200))
    assert names[:3] == ("C1", "a_b", "a_b_2")
    assert len(set(names)) == len(names)
    assert all(0 < len(name) <= 100 and name not in (".", "..") for name in names)


def test_plain_table(capsys: pytest.CaptureFixture[str]) -> None:
    PlainConsole().table("Title", ("name", "rows"), [("a", "1"), ("long", "1,000")])
    assert capsys.readouterr().out == "Title\nname   rows\n----  -----\na         1\nlong  1,000\n"


def test_human_bytes() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]
