"""One table that is looked up three times in a step; the gradients of all lookups add up."""

import tensorflow as tf
from clicks import DIM, STEPS, columns, dataset, initializer, logits_of, loss_of, report
from clicks import train as train_until_end
from clicks import train_op as make_train_op

from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.util.initialize import get_initializer, init, terminate_config_initializer

tf.compat.v1.disable_eager_execution()
init(train_steps=STEPS)

batches = dataset(columns())
batch = tf.compat.v1.data.make_initializable_iterator(batches).get_next()
table = create_table(
    key_dtype=tf.int64,
    dim=DIM,
    name="shared_table",
    emb_initializer=initializer(),
    device_vocabulary_size=2000,
)
embeddings = [
    sparse_lookup(table, batch["user_ids"], modify_graph=True, name="users"),
    sparse_lookup(table, batch["item_ids"], modify_graph=True, name="items"),
    # Read by the model, but not trained by what it is read for.
    sparse_lookup(table, batch["item_ids"], modify_graph=True, name="context", is_grad=False),
]
loss = loss_of(batch["label"], logits_of(*embeddings))
train_op = make_train_op(loss)
modify_graph_and_start_emb_cache()

with tf.compat.v1.Session() as session:
    session.run([tf.compat.v1.global_variables_initializer(), get_initializer(True)])
    losses = train_until_end(session, train_op, loss)

report(losses=losses, rows=table.size())
terminate_config_initializer()
