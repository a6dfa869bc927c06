"""``npu_device.train.optimizer.npu_loss_scale_optimizer``: Keras's own loss scaling."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["NpuLossScaleOptimizer"]

NpuLossScaleOptimizer = tf.keras.mixed_precision.LossScaleOptimizer
