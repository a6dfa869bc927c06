"""``init(restore_model_version=N)``: which checkpoint a restore of the newest one stands for."""

from __future__ import annotations

import os

import tensorflow as tf

from mxrec.checkpoints import naming
from mxrec.tf import config, remote, table_checkpoint
from mxrec.tf.log import logger

_saved: set[str] = set()  # prefixes of the checkpoints that this process has written since init


def note_saved(prefix: str) -> None:
    """Notes that this process has saved a checkpoint: it is restored as what it is.

    Args:
        prefix: path prefix of its dense files.
    """
    _saved.add(remote.absolute(prefix))


def forget() -> None:
    """Forgets what was saved, at the end of an ``init``."""
    _saved.clear()


def chosen(prefix: str) -> str:
    """The checkpoint to restore instead of one that is asked for.

    With ``restore_model_version=N``, that of step N in the same directory, where the newest of the
    directory is asked for and this process has not saved it itself. In all other cases what is
    asked for.

    Args:
        prefix: path prefix of the dense files.

    Raises:
        FileNotFoundError: there is none of step N; the message names the steps that there are.
    """
    settings = config.current()
    step = None if settings is None else settings.restore_model_version
    if step is None or remote.absolute(prefix) in _saved:
        return prefix
    directory = os.path.dirname(prefix)
    newest = tf.train.latest_checkpoint(directory or os.curdir)
    if newest is None or remote.absolute(newest) != remote.absolute(prefix):
        return prefix
    found: dict[int, list[str]] = {}
    for link in remote.versions_in(directory):
        base = os.path.basename(link.path).removeprefix(naming.SPARSE_PREFIX)
        candidate = os.path.join(directory, base)
        if table_checkpoint.dense_exists(candidate):
            found.setdefault(link.manifest.step, []).append(candidate)
    if step not in found:
        steps = ", ".join(map(str, sorted(found))) or "none"
        raise FileNotFoundError(
            f"restore_model_version={step}: {directory or os.curdir} has no checkpoint of this "
            f"step with embedding tables; it has those of the steps {steps}."
        )
    # Of several names that of the same series: model.ckpt-7 for model.ckpt-9.
    stem = prefix.rpartition("-")[0]
    best = max(found[step], key=lambda path: path.rpartition("-")[0] == stem)
    logger.info("restore_model_version=%d: restoring %s instead of %s", step, best, prefix)
    return best
