"""Signals that ask a run to stop: it finishes its batch, says so, and can be continued."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from alseg.active.ranks import PeerDiedError

#: Exit status after a signal: SIGTERM as the shell counts it, and, for a scheduler that starts the
#: job again, the status that means "try later" (EX_TEMPFAIL).
STATUSES = {signal.SIGTERM: 143, signal.SIGUSR1: 75, signal.SIGUSR2: 75}


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


class Asked:
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
        again, Asked.number = Asked.number, number
        if again is not None or not Asked.trainers:
            raise StoppedError(number)

    before = {}
    try:
        for number in STATUSES:
            before[number] = signal.signal(number, ask)
        Asked.handler = ask
    except ValueError:  # not the main thread: a program of its own decides there
        before = {}
    try:
        yield
    except PeerDiedError as error:
        if Asked.number is None:
            raise
        # the signal went to all processes, and another one was the first to stop
        raise StoppedError(Asked.number) from error
    finally:
        Asked.number, Asked.trainers, Asked.handler = None, 0, None
        for number, handler in before.items():
            signal.signal(number, handler)
