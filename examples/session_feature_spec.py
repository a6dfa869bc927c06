"""A Session and FeatureSpecs: the input pipeline processes the keys of coming batches."""

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.asc.manager import start_asc_pipeline
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.util.initialize import init, terminate_config_initializer

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

specs = [
    FeatureSpec("user_ids", table_name="user_table"),
    FeatureSpec("item_ids", table_name="item_table"),
]
insert_keys = get_asc_insert_func(tgt_key_specs=specs, is_training=True)
batches = dataset(columns()).map(insert_keys).prefetch(4)
iterator = tf.compat.v1.data.make_initializable_iterator(batches)
batch = iterator.get_next()

tables = [
    create_table(
        key_dtype=tf.int64,
        dim=tf.TensorShape([DIM]),
        name=spec.table_name,
        emb_initializer=initializer(),
        device_vocabulary_size=1000,
    )
    for spec in specs
]
embeddings = [
    sparse_lookup(table, spec, is_train=True, batch=batch, name=f"{table.table_name}_lookup")
    for table, spec in zip(tables, specs, strict=True)
]
loss = loss_of(batch["label"], logits_of(*embeddings))
train_op = make_train_op(loss)
start_asc_pipeline()

with tf.compat.v1.Session() as session:
    session.run([tf.compat.v1.global_variables_initializer(), iterator.initializer])
    losses = train_until_end(session, train_op, loss)

report(losses=losses, rows=[table.size() for table in tables])
terminate_config_initializer()
