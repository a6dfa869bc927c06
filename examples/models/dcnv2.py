"""DCN V2: a cross network, then a deep network (Wang et al. 2021)."""

import sys

import tensorflow as tf
from ctr import dense, flat, main, mlp

LAYERS = 3


def dcnv2(features, arguments):
    """Returns the log odds of the label."""
    inputs = flat(features, features.embed(arguments.dim))
    width = inputs.shape.as_list()[1]
    crossed = inputs
    for layer in range(LAYERS):
        crossed = inputs * dense(crossed, width, f"cross_{layer}") + crossed
    return [tf.squeeze(dense(mlp(crossed, (128, 64), "deep"), 1, "logit"), axis=1)]


if __name__ == "__main__":
    sys.exit(main(dcnv2, __doc__))
