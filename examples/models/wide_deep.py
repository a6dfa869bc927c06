"""Wide & Deep: a linear model of the categories beside a deep network (Cheng et al. 2016)."""

import sys

import tensorflow as tf
from ctr import dense, flat, main, mlp


def wide_deep(features, arguments):
    """Returns the log odds of the label."""
    wide = tf.add_n(features.embed(1, ".wide"))
    hidden = mlp(flat(features, features.embed(arguments.dim)), (128, 64), "deep")
    return [tf.squeeze(wide + dense(hidden, 1, "logit"), axis=1)]


if __name__ == "__main__":
    sys.exit(main(wide_deep, __doc__))
