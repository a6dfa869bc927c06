"""Starts a worker by its path, in an environment that need not have mxrec.

usage: python -P launch.py SIDE GROUP CONFIG_JSON. A side other than mxrec gets a package ``mxrec``
that has the benchmark's modules and nothing else, so that no engine is loaded beside the peer.
"""

import sys
import types
from pathlib import Path


def main() -> None:
    """Runs the worker with the arguments of the command line."""
    if not sys.argv[1].startswith("mxrec"):
        package = types.ModuleType("mxrec")
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules["mxrec"] = package
    from mxrec.bench import worker

    worker.main(*sys.argv[1:])


if __name__ == "__main__":
    main()
