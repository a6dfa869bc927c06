"""A table with an SSD tier: memory for a tenth of its rows; the others lie in files."""

import tempfile

import numpy as np
import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

import mxrec
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.util.initialize import get_initializer, init, terminate_config_initializer

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

with tempfile.TemporaryDirectory() as directory:  # a directory on a local disk, in real life
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset(columns()))
    batch = iterator.get_next()
    table = create_table(
        key_dtype=tf.int64,
        dim=DIM,
        name="user_table",
        emb_initializer=initializer(),
        device_vocabulary_size=1,
        host_vocabulary_size=39,
        ssd_vocabulary_size=360,
        ssd_data_path=[directory],
    )
    rows = sparse_lookup(table, batch["user_ids"], modify_graph=True)
    loss = loss_of(batch["label"], logits_of(rows))
    train_op = make_train_op(loss)
    # Keys are prepared in the input pipeline, which has their rows read ahead.
    modify_graph_and_start_emb_cache()

    with tf.compat.v1.Session() as session:
        session.run([tf.compat.v1.global_variables_initializer(), get_initializer(True)])
        losses = train_until_end(session, train_op, loss)

    # By hand: rows that a coming batch needs.
    table.prefetch(np.unique(columns()["user_ids"]))
    stats = table.stats()
    figures = mxrec.tier_figures(stats)
    report(
        losses=losses,
        rows=table.size(),
        capacity=table.capacity(),
        tiers=stats["tiers"],
        memory_hit_rate=figures.memory_hit_rate,
        advice=mxrec.tier_advice(stats),
    )
    terminate_config_initializer()  # closes the table; its files go
