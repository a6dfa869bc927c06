"""The ``mxrec`` command: ``mxrec demo``, ``train``, ``evaluate``, ``inspect`` and others.

``mxrec --help`` needs nothing beyond NumPy. The first three commands need TensorFlow; plots need
matplotlib, and a live progress bar needs rich. What is missing is named with the line that installs
it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mxrec.cli.arguments import make_parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 done; 1 a failure (the restored evaluation differs, a benchmark failed, a
        file is damaged, a table is full, memory ran out, ``doctor`` found that mxrec does not
        work); 2 bad arguments or data; 3 something must be installed; 130 interrupted; 141 nobody
        reads the output.
    """
    from mxrec.cli.lines import DataError
    from mxrec.cli.requirements import MissingRequirement
    from mxrec.cli.workflow import RestoreMismatch
    from mxrec.errors import CapacityError, DataLossError

    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        # argparse has printed help or the error already.
        return int(stop.code or 0)
    if arguments.version:
        from mxrec import __version__

        print(f"mxrec {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says that SIGPIPE ended a program
    except (RestoreMismatch, DataLossError, CapacityError) as error:
        return _fail(error, 1)
    except (DataError, OSError) as error:
        return _fail(error, 2)
    except MissingRequirement as error:
        return _fail(error, 3)
    except KeyboardInterrupt:
        print("mxrec: interrupted", file=sys.stderr)
        return 130


def _fail(error: BaseException, code: int) -> int:
    print(f"mxrec: error: {error}", file=sys.stderr)
    return code
