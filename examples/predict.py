"""Saves a trained model, tables included, and predicts from it in another process.

Usage: predict.py train MODEL_DIR, then predict.py predict MODEL_DIR
"""

import os
import sys

import numpy as np
import tensorflow as tf
from clicks import DIM, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.util.initialize import init, set_if_load, terminate_config_initializer

mode, model_dir = sys.argv[1:]
tf.compat.v1.disable_eager_execution()
init()
set_if_load(mode == "predict")

table = create_table(
    key_dtype=tf.int64,
    dim=DIM,
    name="user_table",
    emb_initializer=initializer(),
    device_vocabulary_size=1000,
)
ids = tf.compat.v1.placeholder(tf.int64, [None, 1])
probabilities = tf.sigmoid(logits_of(sparse_lookup(table, ids, is_train=False)))
# The last user is unknown: it reads zeros.
questions = np.append(np.unique(columns()["user_ids"])[:20], -1).reshape(-1, 1)

with tf.compat.v1.Session() as session:
    if mode == "train":
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset(columns()))
        batch = iterator.get_next()
        loss = loss_of(batch["label"], logits_of(sparse_lookup(table, batch["user_ids"])))
        train_op = make_train_op(loss)
        session.run([tf.compat.v1.global_variables_initializer(), iterator.initializer])
        steps = len(train_until_end(session, train_op, loss))
        saver = tf.compat.v1.train.Saver()
        saver.save(session, os.path.join(model_dir, "model-0"), global_step=steps)
    else:
        saver = tf.compat.v1.train.Saver()
        saver.restore(session, tf.train.latest_checkpoint(model_dir))
    answers = session.run(probabilities, {ids: questions})

report(rows=table.size(), probabilities=[float(each) for each in answers])
terminate_config_initializer()
