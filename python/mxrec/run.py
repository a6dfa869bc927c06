"""``python -m mxrec.run script.py …``: runs a script that was written for the accelerator.

The script is not edited. What it imports of ``npu_bridge``, ``npu_device``, ``hccl`` and ``mpi4py``
comes from ``mxrec.compat``, where these packages are not installed.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from mxrec import compat

_HINT = (
    "\nmxrec.run: the script uses names of TensorFlow 1, which this TensorFlow has in "
    "tensorflow.compat.v1. Run it with: python -m mxrec.run --tf1 {}"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a script as ``__main__``, with its own arguments.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 when the script has ended, 2 for bad arguments. What the script raises,
        ``SystemExit`` included, is raised.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    script = arguments.script
    if not os.path.isfile(script):
        print(
            f"mxrec.run: error: {script}: no such file; the first argument is the script to run",
            file=sys.stderr,
        )
        return 2
    directory = os.path.dirname(os.path.abspath(script))
    compat.install()
    if arguments.tf1:
        from mxrec.compat import tensorflow1

        tensorflow1.install(directory)
    sys.argv = [script, *arguments.arguments]
    # As Python does for a script: its directory in place of the working directory of "-m".
    sys.path[:] = [directory, *(sys.path if sys.flags.safe_path else sys.path[1:])]
    try:
        runpy.run_path(script, run_name="__main__")
    except AttributeError as error:
        if not arguments.tf1 and _is_of_tensorflow1(error):
            error.add_note(_HINT.format(script))
        raise
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mxrec.run",
        description="Runs an mxRec script unchanged: imports of npu_bridge, npu_device, hccl and "
        "mpi4py are served by mxrec.compat where these packages are not installed.",
        epilog="example: python -m mxrec.run main.py --run_mode train",
    )
    parser.add_argument(
        "--tf1",
        action="store_true",
        help="the script is of TensorFlow 1: 'import tensorflow' in it, and in the modules beside "
        "it, means tensorflow.compat.v1",
    )
    parser.add_argument("script", help="the script to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def _is_of_tensorflow1(error: AttributeError) -> bool:
    """Whether what lacks the name has it in TensorFlow 1."""
    if error.name is None or "tensorflow" not in sys.modules:
        return False
    import tensorflow as tf

    if isinstance(error.obj, tf.data.Dataset):
        return hasattr(tf.compat.v1.data.Dataset, error.name)
    name = getattr(error.obj, "__name__", "")
    _, found, module = f"{name}.".partition("tensorflow._api.v2.")
    if name != tf.__name__ and not found:
        return False
    old: Any = tf.compat.v1
    for part in filter(None, module.split(".")):
        old = getattr(old, part, None)
    return hasattr(old, error.name)


if __name__ == "__main__":
    sys.exit(main())
