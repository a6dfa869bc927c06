"""DeepFM: a factorization machine and a deep network on the same embeddings (Guo et al. 2017)."""

import sys

import tensorflow as tf
from ctr import dense, flat, main, mlp


def deepfm(features, arguments):
    """Returns the log odds of the label."""
    embeddings = features.embed(arguments.dim)
    linear = tf.add_n(features.embed(1, ".linear"))
    if features.numeric.shape.as_list()[1]:
        linear += dense(features.numeric, 1, "linear")
    stacked = tf.stack(embeddings, axis=1)  # [batch, fields, dim]
    # The sum of all pairs' products is half of the squared sum less the sum of squares.
    squared_sum = tf.square(tf.reduce_sum(stacked, axis=1))
    sum_of_squares = tf.reduce_sum(tf.square(stacked), axis=1)
    pairs = 0.5 * tf.reduce_sum(squared_sum - sum_of_squares, axis=1, keepdims=True)
    deep = dense(mlp(flat(features, embeddings), (128, 64), "deep"), 1, "logit")
    return [tf.squeeze(linear + pairs + deep, axis=1)]


if __name__ == "__main__":
    sys.exit(main(deepfm, __doc__))
