"""Graphs written to files, for people to read."""

from __future__ import annotations

import itertools
import os

import tensorflow as tf

from mxrec.tf.log import logger

DIRECTORY = "mxrec_graphs"


def dump(name: str) -> str | None:
    """Writes the default graph, or the function that is being traced, as a text GraphDef.

    Args:
        name: what it is. The file is ``mxrec_graphs/NAME_N.pbtxt`` below the working directory,
            with the first N that is free.

    Returns:
        The path of the file; None in eager mode, where there is no graph.
    """
    if tf.executing_eagerly():
        return None
    text = str(tf.compat.v1.get_default_graph().as_graph_def())
    os.makedirs(DIRECTORY, exist_ok=True)
    for number in itertools.count():
        path = os.path.join(DIRECTORY, f"{name}_{number}.pbtxt")
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            continue
        logger.info("wrote the graph %s", path)
        return path
    raise AssertionError("there are more numbers than files")
