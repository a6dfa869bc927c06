"""Runs sample programs one after another in one process, and prints what each reported.

Usage: examples_program.py EXAMPLES NAME [ARGUMENT...] [-- NAME [ARGUMENT...]]...
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import runpy
import sys

import tensorflow as tf


def run(folder: str, name: str, *arguments: str) -> dict[str, object]:
    """The report of one program."""
    sys.argv = [name, *arguments]
    output = io.StringIO()
    tf.compat.v1.reset_default_graph()
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(os.path.join(folder, f"{name}.py"), run_name="__main__")
        except SystemExit as stop:
            if stop.code:
                raise
    return json.loads(output.getvalue().splitlines()[-1])


if __name__ == "__main__":
    examples, *words = sys.argv[1:]
    sys.path[:0] = [examples, os.path.join(examples, "models")]
    tf.compat.v1.disable_eager_execution()
    runs = [list(g) for dashes, g in itertools.groupby(words, "--".__eq__) if not dashes]
    print(json.dumps([run(examples, *each) for each in runs], allow_nan=False))
