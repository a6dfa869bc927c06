"""mxrec in Keras: Keras 2 on TensorFlow 2.15, Keras 3 on TensorFlow 2.16 and later."""

from mxrec.tf.keras.embedding import Embedding
from mxrec.tf.keras.summary import TableSummaryCallback

__all__ = ["Embedding", "TableSummaryCallback"]
