"""One side of the comparison, as a process that measures a round whenever it is told to.

Protocol, one JSON document a line. The worker says {"version": TEXT, "cases": [NAME...]}, or
{"unavailable": REASON} and ends. For each request {"case": NAME} on stdin it answers {"figures":
{UNIT: number}, "latencies_ms": [...], "peak_mib": number}, or {"error": TRACEBACK}. The end of
stdin ends it. Libraries that print to stdout are sent to stderr.
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
import traceback
from typing import Any

from mxrec.bench.timing import Cases
from mxrec.bench.workload import Config

MODULES = {
    "mxrec": "mxrec.bench.side_mxrec",
    "tfra": "mxrec.bench.side_tfra",
    "tf": "mxrec.bench.side_tf",
}


def main(side: str, group: str, config_json: str) -> None:
    """Serves one side of one group of cases until stdin ends."""
    config = Config(**json.loads(config_json))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(document: dict[str, Any]) -> None:
        print(json.dumps(document), file=replies, flush=True)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        module = importlib.import_module(MODULES[side])
        cases: Cases = getattr(module, f"{group}_cases")(config)
    except ImportError as error:
        reply({"unavailable": str(error)})
        return
    version = f"{module.version()}, Python {platform.python_version()}"
    reply({"version": version, "cases": list(cases)})
    for line in sys.stdin:
        case = json.loads(line)["case"]
        gc.collect()
        try:
            result = cases[case]()
        except Exception:  # noqa: BLE001 - whatever it is, the report names it and goes on
            reply({"error": traceback.format_exc()})
            continue
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reply(
            {
                "figures": result.figures,
                "latencies_ms": result.latencies_ms,
                "peak_mib": peak,
            }
        )
