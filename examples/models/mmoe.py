"""MMoE: two tasks share experts, each through a gate of its own (Ma et al. 2018)."""

import sys

import tensorflow as tf
from ctr import dense, flat, main, mlp

EXPERTS = 4
TASKS = 2


def mmoe(features, arguments):
    """Returns the log odds of the label and of the second task."""
    inputs = flat(features, features.embed(arguments.dim))
    experts = tf.stack([mlp(inputs, (64,), f"expert_{e}") for e in range(EXPERTS)], axis=1)
    logits = []
    for task in range(TASKS):
        gate = tf.nn.softmax(dense(inputs, EXPERTS, f"gate_{task}"))
        mixed = tf.reduce_sum(experts * gate[:, :, None], axis=1)
        tower = mlp(mixed, (32,), f"tower_{task}")
        logits.append(tf.squeeze(dense(tower, 1, f"logit_{task}"), axis=1))
    return logits


if __name__ == "__main__":
    sys.exit(main(mmoe, __doc__, tasks=TASKS))
