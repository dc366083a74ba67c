"""Signals that ask a run to stop: it finishes its batch, says so, and can be continued."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L

from alseg.core.errors import PeerDiedError

#: Exit status after a signal: SIGTERM as the shell counts it, and, for a scheduler that starts the
#: job again, the status that means "try later" (EX_TEMPFAIL).
STATUSES = {signal.SIGTERM: 143, signal.SIGUSR1: 75}


class StoppedError(Exception):
    """The run was asked to stop.

    Attributes:
        status: What the process exits with.
    """

    def __init__(self, number: int) -> None:
        self.status = STATUSES[signal.Signals(number)]
        super().__init__(
            f"Stopped by {signal.Signals(number).name}; the same command goes on from the last "
            f"checkpoint."
        )


class _Asked:
    """Which signal came, and whether a trainer is at work that will notice it."""

    number: int | None = None
    trainers = 0
    handler: Callable[[int, FrameType | None], None] | None = None


@contextmanager
def stoppable() -> Iterator[None]:
    """Within this, `STATUSES`' signals end the work at the next batch, or at once between fits.

    Raises:
        StoppedError: When one came.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        again, _Asked.number = _Asked.number, number
        if again is not None or not _Asked.trainers:
            raise StoppedError(number)

    before = {}
    try:
        for number in STATUSES:
            before[number] = signal.signal(number, ask)
        _Asked.handler = ask
    except ValueError:  # not the main thread: a program of its own decides there
        before = {}
    try:
        yield
    except PeerDiedError as error:
        if _Asked.number is None:
            raise
        # the signal went to all processes, and another one was the first to stop
        raise StoppedError(_Asked.number) from error
    finally:
        _Asked.number, _Asked.trainers, _Asked.handler = None, 0, None
        for number, handler in before.items():
            signal.signal(number, handler)


class StopAtBatch(L.Callback):
    """Ends a trainer's work after the batch in which a signal came."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """From here on a batch notices the signal."""
        _Asked.trainers += 1

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """From here on a signal acts at once."""
        _Asked.trainers = max(0, _Asked.trainers - 1)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """The trainer is no longer at work; Lightning may not get to `teardown`."""
        _Asked.trainers = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    @staticmethod
    def _take_back() -> None:
        # Lightning's handler lets all processes talk to each other while they may be in the middle
        # of a conversation: where the signal came to one of them alone, they wait for ever
        if _Asked.handler is not None:
            signal.signal(signal.SIGTERM, _Asked.handler)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    def on_predict_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    @staticmethod
    def _look(trainer: L.Trainer) -> None:
        if _Asked.number is not None:
            raise StoppedError(_Asked.number)
