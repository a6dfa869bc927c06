"""One side of the comparison, as a process that measures a round whenever it is told to.

usage: worker.py SIDE GROUP CONFIG_JSON. Protocol, one JSON document a line: the worker says
{"ready": {...}}; for each request {"case": NAME} on stdin it answers {"figures": {NAME: number}};
the end of stdin ends it. Libraries that print to stdout are sent to stderr.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import platform
import resource
import sys
from collections.abc import Callable
from typing import Any

from workload import Config

Figures = dict[str, float]
Cases = dict[str, Callable[[], Figures]]


def main() -> None:
    side, group, config = sys.argv[1], sys.argv[2], Config(**json.loads(sys.argv[3]))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(document: dict[str, Any]) -> None:
        print(json.dumps(document), file=replies, flush=True)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    module = importlib.import_module(f"side_{side}")
    cases: Cases = getattr(module, f"{group}_cases")(config)
    ready = {"version": module.version(), "python": platform.python_version()}
    reply({"ready": ready, "cases": list(cases)})
    for line in sys.stdin:
        case = json.loads(line)["case"]
        gc.collect()
        figures = cases[case]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reply({"figures": figures, "peak_mib": peak})


if __name__ == "__main__":
    main()
