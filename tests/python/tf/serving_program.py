"""A process that predicts with exported models; see test_serving.

Arguments: a folder with cases.npz, and the names of models there. Those before "--" must load into
a process that knows nothing of mxrec.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def check(folder: str, name: str) -> None:
    """Compares the predictions of a model with what the trained one said."""
    cases = np.load(os.path.join(folder, "cases.npz"))
    loaded = tf.saved_model.load(os.path.join(folder, name))
    predict = loaded.signatures["serving_default"]
    wanted = predict.structured_input_signature[1]
    found = predict(**{key: tf.constant(cases[key], wanted[key].dtype) for key in wanted})
    (value,) = found.values()
    assert value.numpy().tobytes() == cases[f"{name}_wanted"].tobytes(), name
    print(name, "predicts the same")


def main() -> None:
    folder, *names = sys.argv[1:]
    split = names.index("--")
    for name in names[:split]:
        check(folder, name)
    assert not any(module.partition(".")[0] == "mxrec" for module in sys.modules)
    import mxrec.tf  # noqa: F401

    for name in names[split + 1 :]:
        check(folder, name)


main()
