"""A Session and the automatic graph: no FeatureSpec; it is rewritten before its first run."""

import sys

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.util.initialize import get_initializer, init, terminate_config_initializer

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

one_shot = "--one-shot" in sys.argv
if one_shot:
    batch = tf.compat.v1.data.make_one_shot_iterator(dataset(columns())).get_next()
else:
    batch = tf.compat.v1.data.make_initializable_iterator(dataset(columns())).get_next()

tables = {
    name: create_table(
        key_dtype=tf.int64,
        dim=tf.TensorShape([DIM]),
        name=name,
        emb_initializer=initializer(),
        device_vocabulary_size=1000,
    )
    for name in ("user_table", "item_table")
}
embeddings = [
    sparse_lookup(tables["user_table"], batch["user_ids"], modify_graph=True),
    sparse_lookup(tables["item_table"], batch["item_ids"], modify_graph=True),
]
loss = loss_of(batch["label"], logits_of(*embeddings))
train_op = make_train_op(loss)
modify_graph_and_start_emb_cache()

with tf.compat.v1.Session() as session:
    session.run(tf.compat.v1.global_variables_initializer())
    if not one_shot:
        session.run(get_initializer(True))
    losses = train_until_end(session, train_op, loss)

prepared = sum(table.stats()["prepared_lookups"] for table in tables.values())
report(losses=losses, rows=[table.size() for table in tables.values()], prepared=prepared)
terminate_config_initializer()
