"""A plain Estimator without tables, started from a list of checkpoints; mxrec.tf is not imported.

    python estimator_lists_program.py DIRECTORY ORDER

ORDER: "before" or "after": whether mxrec is imported before TensorFlow or after its Estimators.
"""

import importlib
import os
import sys

directory, order = sys.argv[1:]

if order == "before":
    importlib.import_module("mxrec")
    assert "tensorflow" not in sys.modules
tf = importlib.import_module("tensorflow")
tf.estimator.Estimator  # noqa: B018  loads the Estimators
importlib.import_module("mxrec")
assert "mxrec.tf" not in sys.modules

v1 = tf.compat.v1


def model_fn(features, labels, mode):
    a, b = (v1.get_variable(name, initializer=0.0) for name in "ab")
    step = v1.train.get_or_create_global_step()
    return tf.estimator.EstimatorSpec(mode, loss=a + b, train_op=v1.assign_add(step, 1))


def input_fn():
    return tf.data.Dataset.from_tensors({"x": [0.0]})


def source(value):
    path = os.path.join(directory, f"source{value:g}")
    with tf.Graph().as_default(), v1.Session() as session:
        for name in "ab":
            v1.get_variable(name, initializer=value)
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, path)


def started(name, paths, variables):
    settings = tf.estimator.WarmStartSettings(paths, variables)
    model_dir = os.path.join(directory, name)
    estimator = tf.estimator.Estimator(model_fn, model_dir, warm_start_from=settings)
    estimator.train(input_fn, steps=1)
    return [float(estimator.get_variable_value(name)) for name in "ab"]


paths = [source(1.0), source(2.0)]
assert started("one", paths[1], ".*") == [2.0, 2.0]
assert "mxrec.tf" not in sys.modules  # one path is TensorFlow's own affair
assert started("list", paths, [".*", "b"]) == [1.0, 2.0]
assert "mxrec.tf" in sys.modules
assert started("again", paths[0], ".*") == [1.0, 1.0]
assert started("list again", paths, [".*", "a"]) == [2.0, 1.0]
