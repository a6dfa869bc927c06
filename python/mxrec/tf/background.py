"""Completes a checkpoint in a thread while training goes on."""

from __future__ import annotations

import threading
from typing import Any

from mxrec.tf.log import logger


class BackgroundSave:
    """A ``SaverSave`` that a thread completes.

    Attributes:
        save: the save.
    """

    def __init__(self, save: Any) -> None:
        self.save = save
        self._error: BaseException | None = None
        # No daemon: the end of the program waits for it.
        self._thread = threading.Thread(target=self._run, name="mxrec-save")
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            save.abandon()
            raise

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Waits for the end; raises what the save failed of."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self.save.complete()
        except BaseException as error:  # noqa: BLE001  # raised by wait()
            self._error = error
            # Training may have ended by an error of its own, and nobody waits.
            logger.error("The save of %s failed: %s", self.save.prefix, error)
