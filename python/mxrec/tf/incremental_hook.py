"""Full and delta checkpoints by time, in Estimator and MonitoredTrainingSession.

``install()`` has every monitored session that trains tables save by the times of
``init(is_incremental_checkpoint=True, …)``: a ``CheckpointSaverHook`` among its hooks becomes an
``IncrementalSaverHook``; where there is none, one is added for the session's checkpoint directory.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import tensorflow as tf
from tensorflow.python.training import monitored_session

from mxrec.checkpoints import saving
from mxrec.tf import config, graph_state, saver, saver_state, table_checkpoint
from mxrec.tf.background import BackgroundSave
from mxrec.tf.log import logger

_INSTALLED = "_mxrec_saves_deltas"
_Hook: Any = tf.compat.v1.train.CheckpointSaverHook
# What a save may fail of that says nothing about the program.
_FAILURES = (OSError, MemoryError, tf.errors.OpError)


class IncrementalSaverHook(_Hook):  # type: ignore[misc]  # TensorFlow is untyped
    """Saves full checkpoints and deltas by time; those by time are written in the background.

    A time that comes while a save is under way is put off until that has ended. Where there are
    ``CheckpointSaverListener`` objects, training waits for each save, because they may look at it
    (``train_and_evaluate`` evaluates there); their time does not count. A hook that saves every so
    many steps goes on doing so; those are full checkpoints, and training waits. At the end training
    waits for the last save.

    Args:
        plain: the hook whose directory, Saver and listeners are used. Its times do not count.
        settings: what ``init`` was given.
    """

    def __init__(self, plain: Any, settings: config.ConfigInitializer) -> None:
        # Not the base's __init__, which would make all of this anew.
        self.__dict__.update(plain.__dict__)
        every_steps = plain._timer._every_steps
        self._by_steps = every_steps is not None
        full, delta = settings.save_checkpoint_due_time, settings.save_delta_checkpoints_secs
        assert full is not None and delta is not None
        self._full_secs, self._delta_secs = full, delta
        self._goes_on = settings.on_save_failure == "continue"
        self._wanted = settings.restore_model_version
        self._background: BackgroundSave | None = None
        self._last_step = -1
        self._full_at = 0.0  # seconds since 1970: it outlives the process
        self._tried_at = 0.0  # of time.monotonic

    def _save(self, session: Any, step: int) -> bool:
        """Called by the base class: at the start, by steps, and at the end."""
        prefix = f"{self._save_path}-{step}"
        self._tried_at = time.monotonic()
        if self._last_step < 0 and saver.holds(session, prefix):
            # Restored from there: the next delta builds on it.
            self._note(prefix, step)
            return self._tell_listeners(session, step)
        if self._last_step < 0 and self._wanted is not None and step != self._wanted:
            logger.warning(
                "restore_model_version=%d: %s had no checkpoint, training starts at step %d.",
                self._wanted,
                self._checkpoint_dir,
                step,
            )
        return self._save_now(session, step, self._last_step >= 0 and not self._by_steps)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves what is due."""
        self._collect()
        now = time.monotonic()
        if self._by_steps:
            super().after_run(run_context, run_values)
        under_way = self._background is not None or saving.is_busy()
        if under_way or now - self._tried_at < self._delta_secs:
            return
        session = run_context.session
        step = int(session.run(self._global_step_tensor))
        if step == self._last_step:
            return
        if not self._listeners:
            self._save_behind(session, step)
        elif self._save_now(session, step, allow_delta=True):
            run_context.request_stop()

    def end(self, session: Any) -> None:
        """Waits for the save that is under way, and saves the last step."""
        self._collect(wait=True)
        step = int(session.run(self._global_step_tensor))
        if step != self._last_step:
            self._goes_on = False  # there is no later save that would make up for it
            self._save_now(session, step, allow_delta=True)
        for listener in self._listeners:
            listener.end(session, step)

    # --- Saving

    def _is_full_due(self) -> bool:
        # A clock that was set back must not put full checkpoints off for ever.
        return not 0 <= time.time() - self._full_at < self._full_secs

    def _begin(self, session: Any, step: int, delta: bool) -> Any:
        logger.info("Saving %s of step %d", "a delta" if delta else "a full checkpoint", step)
        self._tried_at = time.monotonic()
        return saver.begin_save(
            self._get_saver(),
            session,
            self._save_path,
            step,
            incremental=True,
            delta=delta,
            # A delta's graph is that of its full checkpoint.
            write_meta_graph=self._save_graph_def and not delta,
        )

    def _save_behind(self, session: Any, step: int) -> None:
        try:
            save = self._begin(session, step, delta=not self._is_full_due())
        except _FAILURES as error:
            self._failed(error)
        else:
            self._background = BackgroundSave(save)

    def _save_now(self, session: Any, step: int, allow_delta: bool) -> bool:
        for listener in self._listeners:
            listener.before_save(session, step)
        try:
            save = self._begin(session, step, delta=allow_delta and not self._is_full_due())
            save.complete()
        except _FAILURES as error:
            self._failed(error)
            return False
        self._written(save)
        return self._tell_after(session, step)

    def _tell_listeners(self, session: Any, step: int) -> bool:
        for listener in self._listeners:
            listener.before_save(session, step)
        return self._tell_after(session, step)

    def _tell_after(self, session: Any, step: int) -> bool:
        # All of them are told, as in TensorFlow.
        stops = any([listener.after_save(session, step) for listener in self._listeners])
        # An evaluation may last longer than the time between saves.
        self._tried_at = time.monotonic()
        return stops

    def _collect(self, wait: bool = False) -> None:
        """Looks after the save in the background, if there is one."""
        background = self._background
        if background is None or not (wait or background.done):
            return
        self._background = None
        try:
            background.wait()
        except _FAILURES as error:
            self._failed(error)
        else:
            self._written(background.save)

    def _written(self, save: Any) -> None:
        self._summary_writer.add_session_log(
            tf.compat.v1.SessionLog(
                status=tf.compat.v1.SessionLog.CHECKPOINT, checkpoint_path=self._save_path
            ),
            save.step,
        )
        self._note(save.prefix, save.step)

    def _note(self, prefix: str, step: int) -> None:
        self._last_step = step
        root = saver_state.root_of(prefix)
        saved = 0.0 if root is None else table_checkpoint.read_manifest(root).saved
        self._full_at = saved

    def _failed(self, error: BaseException) -> None:
        if not self._goes_on:
            raise error
        logger.warning(
            "A timed save into %s failed; training goes on, and the next save is due in %d "
            "seconds: %s",
            self._checkpoint_dir,
            self._delta_secs,
            error,
        )


def install() -> None:
    """Wraps the constructor of monitored sessions process-wide. Idempotent."""
    session_class = monitored_session._MonitoredSession
    if not getattr(session_class, _INSTALLED, False):
        session_class.__init__ = _adding(session_class.__init__)
        setattr(session_class, _INSTALLED, True)


def _adding(plain: Any) -> Any:
    @functools.wraps(plain)
    def __init__(
        self: Any, session_creator: Any, hooks: Any, should_recover: Any, *args: Any, **kwargs: Any
    ) -> None:
        adds = isinstance(self, tf.compat.v1.train.MonitoredSession)
        hooks = with_saver_hook(session_creator, list(hooks or ()), adds)
        plain(self, session_creator, hooks, should_recover, *args, **kwargs)

    return __init__


def with_saver_hook(session_creator: Any, hooks: list[Any], adds: bool) -> list[Any]:
    """The hooks of a session, with one that saves by the times of ``init``, where it asked for it.

    Args:
        session_creator: of the session.
        hooks: as given.
        adds: add one where there is no ``CheckpointSaverHook``; False: only take its place.
    """
    settings = config.current()
    graph = tf.compat.v1.get_default_graph()
    if settings is None or not settings.is_incremental_checkpoint:
        return hooks
    if not saver.has_tables(graph) or not graph_state.state_of(graph).trained:
        return hooks
    if any(isinstance(hook, IncrementalSaverHook) for hook in hooks):
        return hooks
    for index, hook in enumerate(hooks):
        if type(hook) is _Hook:
            # The last one: a save holds what the other hooks have done after the step, such as
            # eviction, which would not be done again when training goes on from it.
            return [*hooks[:index], *hooks[index + 1 :], IncrementalSaverHook(hook, settings)]
    # There is no public way to ask a ChiefSessionCreator for them.
    directory = getattr(session_creator, "_checkpoint_dir", None)
    if not adds or directory is None:
        return hooks
    scaffold = getattr(session_creator, "_scaffold", None)
    plain = _Hook(
        os.fspath(directory), save_secs=settings.save_delta_checkpoints_secs, scaffold=scaffold
    )
    return [*hooks, IncrementalSaverHook(plain, settings)]
