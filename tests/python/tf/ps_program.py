"""A parameter server with tables. Run with CLUSTER, as JSON, and DIR, of SSD tiers.

It creates the tables, answers every line of its input with their statistics and ends with it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorflow as tf

import mxrec.tf as mx
from mxrec.tf import optimizers as opt

v1 = tf.compat.v1
DIM = 2


def make(name: str, initializer: Any = None, **options: Any) -> Any:
    """A table as both processes create it; its initial values are ones."""
    initializer = initializer or v1.ones_initializer()
    options = {"device_vocabulary_size": 1000, **options}
    return mx.create_table(tf.int64, DIM, name, initializer, **options)


def make_tiered(directory: str) -> Any:
    """A table with memory for 32 rows."""
    return make(
        "tiered",
        device_vocabulary_size=1,
        host_vocabulary_size=31,
        ssd_vocabulary_size=968,
        ssd_data_path=[directory],
    )


def model(table: Any, ids: Any, access: dict[str, int] | None) -> tuple[Any, Any]:
    """Rows of a lookup, and the op that trains them."""
    rows = mx.sparse_lookup(table, ids, access_and_evict_config=access)
    optimizer = opt.gradient_descent.create_hash_optimizer(0.5)
    return rows, optimizer.minimize(tf.reduce_sum(rows))


def main() -> None:
    """Serves until the input ends."""
    mx.init()
    with tf.Graph().as_default():
        names = ("bare", "sketch", "custom", "function", "cond", "other")
        bare = [make(name) for name in names]
        trained = make("trained")
        model(trained, tf.constant([1], tf.int64), {"access_threshold": 2})
        tiered = make_tiered(sys.argv[2])
        model(tiered, tf.constant([1], tf.int64), None)
    cluster = tf.train.ClusterSpec(json.loads(sys.argv[1]))
    server = v1.train.Server(cluster, job_name="ps", task_index=0)
    print(json.dumps(server.target), flush=True)
    for _ in sys.stdin:
        tables = {table.table_name: table for table in [*bare, trained, tiered]}
        stats = {
            name: {
                "rows": table.size(),
                "counts": table.counts(list_of_keys()).tolist(),
                "threshold": table.stats()["admission_threshold"],
                "mode": table.engine.admission.mode,
                "max_age": table.engine.eviction.max_age,
                "tiers": table.stats()["tiers"],
                "evicted": table.stats()["evicted_by_age"],
            }
            for name, table in tables.items()
        }
        print(json.dumps(stats), flush=True)


def list_of_keys() -> Any:
    """The keys whose counts are told."""
    return tf.range(10, dtype=tf.int64).numpy()


if __name__ == "__main__":
    main()
