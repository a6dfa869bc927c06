"""Answers with the newest model that estimator_styles.py has exported; its tables are in it.

Usage: serve.py MODEL_DIR
"""

import os
import sys

import tensorflow as tf
from clicks import BATCH, columns, report

export_dir = os.path.join(sys.argv[1], "export")
newest = os.path.join(export_dir, max(os.listdir(export_dir)))
asked = columns(steps=10, seed=1)

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], newest)
    signature = model.signature_def["serving_default"]
    probability = signature.outputs["probability"].name
    probabilities = []
    for at in range(0, len(asked["label"]), BATCH):
        request = {
            signature.inputs[name].name: asked[name][at : at + BATCH]
            for name in ("user_ids", "item_ids")
        }
        probabilities += session.run(probability, request).tolist()

report(probabilities=probabilities)
