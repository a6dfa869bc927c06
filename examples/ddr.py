"""A table with a device and a host tier (DDR): sizes add up, and a full table says so."""

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.util.initialize import init, terminate_config_initializer

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

iterator = tf.compat.v1.data.make_initializable_iterator(dataset(columns()))
batch = iterator.get_next()
table = create_table(
    key_dtype=tf.int64,
    dim=DIM,
    name="user_table",
    emb_initializer=initializer(),
    device_vocabulary_size=50,
    host_vocabulary_size=350,
)
loss = loss_of(batch["label"], logits_of(sparse_lookup(table, batch["user_ids"])))
train_op = make_train_op(loss)
more_keys = tf.range(-400, 0, dtype=tf.int64)
overflow = sparse_lookup(table, more_keys)

with tf.compat.v1.Session() as session:
    session.run([tf.compat.v1.global_variables_initializer(), iterator.initializer])
    losses = train_until_end(session, train_op, loss)
    rows = table.size()
    try:
        session.run(overflow)
        error = ""
    except tf.errors.ResourceExhaustedError as refused:
        error = refused.message

report(losses=losses, rows=rows, capacity=table.capacity(), rows_after=table.size(), error=error)
terminate_config_initializer()
