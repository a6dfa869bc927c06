"""DLRM: embeddings and a bottom network meet in dot products of all pairs (Naumov et al. 2019)."""

import sys

import tensorflow as tf
from ctr import dense, main, mlp


def dlrm(features, arguments):
    """Returns the log odds of the label."""
    embeddings = features.embed(arguments.dim)
    fields = list(embeddings)
    if features.numeric.shape.as_list()[1]:
        fields.append(mlp(features.numeric, (64, arguments.dim), "bottom"))
    stacked = tf.stack(fields, axis=1)  # [batch, fields, dim]
    products = tf.matmul(stacked, stacked, transpose_b=True)
    pairs = [products[:, i, j] for i in range(len(fields)) for j in range(i)]
    # A single field has no pair.
    joined = tf.concat([pair[:, None] for pair in pairs] + [fields[-1]], axis=1)
    return [tf.squeeze(dense(mlp(joined, (128, 64), "top"), 1, "logit"), axis=1)]


if __name__ == "__main__":
    sys.exit(main(dlrm, __doc__))
