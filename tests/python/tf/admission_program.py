"""A training script with admission, run by the tests as a process of its own.

Usage: admission_program.py DIR PHASE THRESHOLD MODE. PHASE `first` trains and saves; any other
restores, trains once more, and does not save. Each leaves what it saw in DIR/PHASE.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from admission_runs import Run, by_config, keys

from mx_rec.util.initialize import init, terminate_config_initializer


def main(directory: Path, phase: str, threshold: int, mode: str) -> None:
    init()
    program = Run(by_config(access_threshold=threshold), admission=mode, admission_keys=4096)
    found = {}
    with program.graph.as_default():
        if phase == "first":
            program.train(5, 6, 6)
            program.train(5, 6)
            program.saver.save(program.session, str(directory / "model"))
        else:
            program.saver.restore(program.session, tf.train.latest_checkpoint(str(directory)))
            found["restored_counts"] = program.table.counts(keys(5, 6, 7))
            found["restored_rows"] = program.read(5, 6, 7)
            found["trained"] = program.train(5, 6, 7)
    np.savez(
        directory / f"{phase}.npz",
        counts=program.table.counts(keys(5, 6, 7)),
        rows=program.read(5, 6, 7),
        threshold=program.table.stats()["admission_threshold"],
        **found,
    )
    terminate_config_initializer()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
