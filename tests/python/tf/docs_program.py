"""Runs the code of a page, block after block, in the working directory. Usage: docs_program.py PAGE

Each block of Python has names of its own and, in TensorFlow, a graph of its own; of the shell's
blocks each line is a command `mxrec …`. A block behind `<!-- not run: why -->` is passed over.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"^(<!-- not run: .+? -->\n)?```(python|sh)\n(.*?)^```$", re.DOTALL | re.M)


def run_python(code: str, name: str) -> None:
    """As a program of its own, but for the modules that are loaded already."""
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].compat.v1.reset_default_graph()
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


def run_shell(lines: str) -> None:
    """Commands of the program, with this interpreter."""
    for line in lines.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program != "mxrec":
            raise SystemExit(f"only mxrec runs in tests, not: {line}")
        subprocess.run([sys.executable, "-m", "mxrec.cli", *arguments], check=True)


def main(page: Path) -> None:
    """Runs what is to be run and prints how many blocks that were."""
    ran = 0
    for number, (left_out, language, code) in enumerate(BLOCK.findall(page.read_text("utf-8"))):
        if left_out:
            continue
        if language == "python":
            run_python(code, f"{page.name}, block {number}")
        else:
            run_shell(code)
        ran += 1
    print(f"blocks: {ran}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
