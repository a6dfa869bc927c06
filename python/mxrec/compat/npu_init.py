"""``npu_bridge.npu_init``: what it has beside the names of other modules (``places``)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from mxrec.compat import hccl_ops, npu_ops, ranks
from mxrec.compat import iterations as util
from mxrec.compat import plugin as npu_plugin
from mxrec.compat import scopes as npu_scope
from mxrec.compat.absent import absent
from mxrec.compat.config import npu_config_proto
from mxrec.compat.unary_ops import npu_unary_ops

__all__ = [
    "RewriterConfig",
    "close_session",
    "config_pb2",
    "get_npu_local_rank_id",
    "get_npu_local_rank_size",
    "get_npu_rank_id",
    "get_npu_rank_size",
    "hccl_ops",
    "init_resource",
    "keras_to_npu",
    "npu_callbacks_append",
    "npu_ops",
    "npu_plugin",
    "npu_rnn",
    "npu_scope",
    "npu_strategy",
    "npu_unary_ops",
    "rewriter_config_pb2",
    "set_keras_session_npu_config",
    "shutdown_resource",
    "util",
]


class _AbsentModule:
    """A module of the accelerator whose functions mean nothing here."""

    def __init__(self, place: str, remedy: str) -> None:
        self._place = place
        self._remedy = remedy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return absent(self._place, name, self._remedy)


_NPU = "npu_bridge.estimator.npu"
npu_rnn = _AbsentModule(f"{_NPU}.npu_rnn", "Use tf.compat.v1.nn.dynamic_rnn.")
npu_strategy = _AbsentModule(f"{_NPU}.npu_strategy", "Leave the strategy out: there is one rank.")
keras_to_npu = _AbsentModule(f"{_NPU}.keras_to_npu", "Use tf.keras.estimator.model_to_estimator.")


def init_resource(config: Any = None) -> tuple[Any, Any]:
    """Returns a Session and an op, as scripts that ask for their rank before training want them.

    Args:
        config: a ``tf.compat.v1.ConfigProto``.
    """
    shutdown = npu_ops.shutdown_system()
    return tf.compat.v1.Session(config=npu_config_proto(config)), shutdown


def shutdown_resource(sess: Any, npu_shutdown: Any) -> None:
    """Runs the op that ``init_resource`` returned."""
    sess.run(npu_shutdown)


def close_session(sess: Any) -> None:
    """Closes a Session."""
    sess.close()


def set_keras_session_npu_config(config: Any = None) -> Any:
    """Makes a Session with ``npu_config_proto``'s config the one of Keras, and returns it.

    Args:
        config: a ``tf.compat.v1.ConfigProto``.

    Raises:
        ImportError: Keras has no Sessions, which is so from TensorFlow 2.16 on.
    """
    if not hasattr(tf.compat.v1.keras.backend, "set_session"):
        raise ImportError(
            "set_keras_session_npu_config needs Keras 2, which TensorFlow has up to version 2.15; "
            f"this is TensorFlow {tf.__version__}. Leave the call out, or install "
            "tensorflow==2.15.1."
        )
    session = tf.compat.v1.Session(config=npu_config_proto(config))
    tf.compat.v1.keras.backend.set_session(session)
    return session


def npu_callbacks_append(callbacks_list: Any = ()) -> list[Any]:
    """Returns the list of callbacks; there is none to add on the CPU."""
    return callbacks_list if isinstance(callbacks_list, list) else list(callbacks_list)


def get_npu_rank_id() -> int:
    """Returns the number of this rank."""
    return ranks.get_rank_id()


def get_npu_local_rank_id() -> int:
    """Returns the number of this rank on this machine."""
    return ranks.get_local_rank_id()


def get_npu_rank_size() -> int:
    """Returns the number of ranks."""
    return ranks.get_rank_size()


def get_npu_local_rank_size() -> int:
    """Returns the number of ranks on this machine."""
    return ranks.get_local_rank_size()
