"""An Estimator that trains, evaluates, predicts and exports, with FeatureSpecs or automatic graph.

Usage: estimator_styles.py (feature_spec | auto_graph) MODEL_DIR
"""

import os
import sys

import tensorflow as tf
from clicks import DIM, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train_op as make_train_op

from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.util.initialize import init, terminate_config_initializer
from tf_adapter import NPUEstimator, NPURunConfig, npu_hooks_append

style, model_dir = sys.argv[1:]
modify_graph = style == "auto_graph"
init(use_dynamic_expansion=True)

FEATURES = {"user_ids": "user_table", "item_ids": "item_table"}
specs = [FeatureSpec(feature, table_name=table) for feature, table in FEATURES.items()]


def input_fn(is_training, seed):
    """Returns a function that makes the dataset of (features, labels)."""

    def make():
        batches = dataset(columns(steps=60 if is_training else 10, seed=seed))
        if not modify_graph:
            batches = batches.map(get_asc_insert_func(tgt_key_specs=specs, is_training=is_training))
        return batches.map(lambda batch: (batch, batch["label"])).prefetch(4)

    return make


def model_fn(features, labels, mode):
    """Builds the graph of one mode."""
    is_train = mode == tf.estimator.ModeKeys.TRAIN
    embeddings = []
    for spec in specs:
        table = create_table(
            key_dtype=tf.int64, dim=DIM, name=spec.table_name, emb_initializer=initializer()
        )
        ids = features[spec.name] if modify_graph else spec
        embeddings.append(
            sparse_lookup(table, ids, is_train=is_train, modify_graph=modify_graph, batch=features)
        )
    logits = logits_of(*embeddings)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"probability": tf.sigmoid(logits)})
    loss = loss_of(labels, logits)
    if not is_train:
        auc = tf.compat.v1.metrics.auc(labels, tf.sigmoid(logits))
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={"auc": auc})
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=make_train_op(loss))


def hooks():
    """Returns the hooks of one call."""
    return npu_hooks_append([GraphModifierHook(modify_graph=modify_graph)])


run_config = NPURunConfig(
    model_dir=model_dir, save_checkpoints_steps=1000, precision_mode="allow_mix_precision"
)
estimator = NPUEstimator(model_fn=model_fn, config=run_config)
estimator.train(input_fn(True, seed=0), hooks=hooks())
metrics = estimator.evaluate(input_fn(False, seed=1), hooks=hooks())
predictions = estimator.predict(input_fn(False, seed=1), hooks=hooks())
probabilities = [float(each["probability"]) for each in predictions]


def serving_inputs():
    """Returns what a request has: ids, of any number of impressions."""
    ids = {
        "user_ids": tf.compat.v1.placeholder(tf.int64, [None, 1], "user_ids"),
        "item_ids": tf.compat.v1.placeholder(tf.int64, [None, 3], "item_ids"),
    }
    return tf.estimator.export.ServingInputReceiver(ids, ids)


estimator.export_saved_model(os.path.join(model_dir, "export"), serving_inputs)  # see serve.py
report(
    steps=int(metrics["global_step"]),
    loss=float(metrics["loss"]),
    auc=float(metrics["auc"]),
    probabilities=probabilities,
)
terminate_config_initializer()
