"""Timestamps, admission and eviction: rare keys get no row, old ones lose theirs."""

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train_op as make_train_op

from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.asc.manager import start_asc_pipeline
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.core.feature_process import EvictHook
from mx_rec.util.initialize import init, terminate_config_initializer

ACCESS_THRESHOLD = 3  # occurrences
EVICTION_THRESHOLD = 200  # seconds: twenty batches

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

rules = {"access_threshold": ACCESS_THRESHOLD, "eviction_threshold": EVICTION_THRESHOLD}
specs = [
    FeatureSpec("user_ids", table_name="user_table", **rules),
    FeatureSpec("item_ids", table_name="item_table", **rules),
    FeatureSpec("timestamp", is_timestamp=True),
]
batches = dataset(columns()).map(get_asc_insert_func(tgt_key_specs=specs)).prefetch(4)
batch = tf.compat.v1.data.make_one_shot_iterator(batches).get_next()

tables = [
    create_table(
        key_dtype=tf.int64,
        dim=DIM,
        name=spec.table_name,
        emb_initializer=initializer(),
        device_vocabulary_size=1000,
    )
    for spec in specs[:2]
]
embeddings = [
    sparse_lookup(table, spec, batch=batch) for table, spec in zip(tables, specs, strict=False)
]
loss = loss_of(batch["label"], logits_of(*embeddings))
train_op = make_train_op(loss)
start_asc_pipeline()

losses, rows = [], []
hook = EvictHook(evict_enable=True, evict_step_interval=STEPS)  # at the end of this short run
with tf.compat.v1.train.MonitoredTrainingSession(hooks=[hook]) as session:
    while not session.should_stop():
        try:
            losses.append(float(session.run([train_op, loss])[1]))
        except tf.errors.OutOfRangeError:
            break
        rows.append([table.size() for table in tables])

evicted = [table.stats()["evicted"] for table in tables]
report(losses=losses, rows_before=rows[-2], rows=rows[-1], evicted=evicted)
terminate_config_initializer()
