"""Which module of this package holds the names of each module of the accelerator's packages."""

from __future__ import annotations

_EVERYTHING = (
    "npu_init",
    "config",
    "estimator",
    "hooks",
    "loss_scale",
    "optimizers",
    "ranks",
    "gradient_split",
)
# Below npu_bridge, and below npu_device.compat.v1, which has the same modules.
_TENSORFLOW_1 = {
    "": (),
    "npu_init": _EVERYTHING,
    "estimator": (),
    "estimator.npu_ops": ("npu_ops",),
    "estimator.npu_unary_ops": ("unary_ops",),
    "estimator.npu": (),
    "estimator.npu.npu_config": ("config",),
    "estimator.npu.npu_estimator": ("estimator",),
    "estimator.npu.npu_hook": ("hooks",),
    "estimator.npu.npu_loss_scale_manager": ("loss_scale",),
    "estimator.npu.npu_loss_scale_optimizer": ("loss_scale",),
    "estimator.npu.npu_optimizer": ("optimizers",),
    "estimator.npu.npu_plugin": ("plugin",),
    "estimator.npu.npu_scope": ("scopes",),
    "estimator.npu.util": ("iterations",),
    "hccl": (),
    "hccl.hccl_ops": ("hccl_ops",),
}

# By module: the modules of mxrec.compat whose public names it has.
PLACES: dict[str, tuple[str, ...]] = {
    **{f"npu_bridge.{name}".rstrip("."): place for name, place in _TENSORFLOW_1.items()},
    **{f"npu_device.compat.v1.{name}".rstrip("."): place for name, place in _TENSORFLOW_1.items()},
    "npu_device": ("device",),
    "npu_device.compat": ("device_compat",),
    "npu_device.distribute": ("device_distribute",),
    "npu_device.distribute.hccl": ("device_distribute",),
    "npu_device.train": (),
    "npu_device.train.optimizer": ("keras_loss_scale",),
    "npu_device.train.optimizer.npu_loss_scale_optimizer": ("keras_loss_scale",),
    "hccl": (),
    "hccl.manage": (),
    "hccl.manage.api": ("ranks",),
    "hccl.split": (),
    "hccl.split.api": ("gradient_split",),
    "mpi4py": (),
    "mpi4py.MPI": ("one_process",),
}

ROOTS = frozenset(name.partition(".")[0] for name in PLACES)
PACKAGES = frozenset(name.rpartition(".")[0] for name in PLACES) - {""}
