"""Dynamic expansion: tables grow without limit, and gradients are applied by row address."""

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end

from mx_rec.constants.constants import (
    ASCEND_SPARSE_LOOKUP_ID_OFFSET,
    ASCEND_SPARSE_LOOKUP_LOCAL_EMB,
)
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.optimizers.lazy_adam_by_addr import create_hash_optimizer_by_address
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS, use_dynamic_expansion=True)

iterator = tf.compat.v1.data.make_initializable_iterator(dataset(columns()))
batch = iterator.get_next()
tables = [
    create_table(
        key_dtype=tf.int64,
        dim=DIM,
        name=name,
        emb_initializer=initializer(),
        device_vocabulary_size=1,  # tables grow from here
    )
    for name in ("user_table", "item_table")
]
embeddings = [
    sparse_lookup(tables[0], batch["user_ids"]),
    sparse_lookup(tables[1], batch["item_ids"]),
]
loss = loss_of(batch["label"], logits_of(*embeddings))

dense_variables, _ = get_dense_and_sparse_variable()
dense = tf.compat.v1.train.AdamOptimizer(0.01)
sparse = create_hash_optimizer_by_address(learning_rate=0.01)
local_embeddings = tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
addresses = tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_ID_OFFSET)
gradients = tf.gradients(loss, local_embeddings)
train_op = tf.group(
    dense.minimize(loss, var_list=dense_variables),
    sparse.apply_gradients(list(zip(gradients, addresses, strict=True))),
)

with tf.compat.v1.Session() as session:
    session.run([tf.compat.v1.global_variables_initializer(), iterator.initializer])
    losses = train_until_end(session, train_op, loss)

report(losses=losses, rows=[table.size() for table in tables])
terminate_config_initializer()
