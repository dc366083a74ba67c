"""Which process of a job died, and of what: said by the others, which do not wait for it."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from alseg.cli.command import BAD_INPUT
from alseg.cli.faults import in_worker, sentence_of
from alseg.core.errors import UserError
from alseg.core.files import write_atomic

#: Folder of a run folder with a file per process, which it has locked as long as it lives.
PROCESSES = ".processes"
_AGAIN = "give the same command again: it goes on from the last checkpoint."


class Last(NamedTuple):
    """The last words of a process.

    Attributes:
        kind: ``done``, ``error``, or ``peer`` where it ended since another one had.
        sentence: What it said.
    """

    kind: str
    sentence: str


class Peers:
    """Watches the other processes of a job while this one works.

    Every process has a file of its own locked, which the kernel undoes however the process ends;
    what it has to say of its end is in a file beside it. A thread looks at the others, so that
    nothing waits for a dead process, as collectives do, for hours.

    Args:
        root: The run folder.
        rank: Of this process.
        world: Number of processes.
        job: Names the job.
        children: Exit statuses of the processes that this one has started, by rank; None while
            they work.
        grace: Seconds in which the main thread may end by itself once a process has died.
        end: Ends this process from the thread; for tests.
    """

    def __init__(
        self,
        root: Path,
        rank: int,
        world: int,
        job: str,
        children: Callable[[], Mapping[int, int | None]] = dict,
        grace: float = 3.0,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self.folder, self.rank, self.world, self.job = root / PROCESSES, rank, world, job
        self.children, self.grace, self.end = children, grace, end
        self._file: IO[str] | None = None
        self._over = threading.Event()

    def __enter__(self) -> "Peers":
        """Begin to watch; nothing of it where there is one process."""
        if self.world > 1 and _can_lock():
            self.folder.mkdir(exist_ok=True)
            self._words(self.rank).unlink(missing_ok=True)
            self._file = (self.folder / str(self.rank)).open("w", encoding="utf-8")
            _lock(self._file, exclusive=True)
            self._file.write(self.job)
            self._file.flush()
            threading.Thread(target=self._watch, name="peers", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave word of how this process ends.

        Raises:
            PeerDiedError: In place of an error that came of another process's death.
        """
        if self._file is None:
            return
        # a collective fails a moment before its other side can be seen to be dead
        of_its_own = error is None or isinstance(error, UserError)
        found = None if of_its_own else self._await_death(isinstance(error, RuntimeError))
        self._over.set()
        if error is None:
            self._leave(Last("done", ""))
        elif found is not None:
            self._leave(Last("peer", found))
            from alseg.active.ranks import PeerDiedError

            raise PeerDiedError(found) from None
        else:
            told = sentence_of(error) or in_worker(error)
            said = (told.splitlines() or [""])[0]
            if not type(error).__module__.startswith("alseg."):
                said = f"{type(error).__name__}: {said}"
            self._leave(Last("error", said))

    def _leave(self, last: Last) -> None:
        with contextlib.suppress(OSError):  # a full disk may be what it dies of
            write_atomic(self._words(self.rank), f"{last.kind}\n{self.job}\n{last.sentence}")
        if self._file is not None:
            self._file.close()

    def _words(self, rank: int) -> Path:
        return self.folder / f"{rank}.last"

    def _last(self, rank: int) -> Last | None:
        try:
            kind, job, sentence = self._words(rank).read_text(encoding="utf-8").split("\n", 2)
        except (OSError, ValueError):
            return None
        return Last(kind, sentence) if job == self.job else None

    def _gone(self) -> Iterator[tuple[int, Last | None]]:
        """Processes that have ended before their work was done, and what they said of it."""
        statuses = self.children()
        for rank in range(self.world):
            if rank == self.rank:
                continue
            last = self._last(rank)
            if last is not None and last.kind == "done":
                continue
            status = statuses.get(rank)
            if last is None and status is not None and status < 0:
                yield rank, Last("error", f"it was killed by {signal.Signals(-status).name}")
            elif status or self._is_free(rank):
                yield rank, self._last(rank)  # it may have spoken in between

    def _is_free(self, rank: int) -> bool:
        """Whether a process of this job has held its file, and holds it no more."""
        try:
            with (self.folder / str(rank)).open(encoding="utf-8") as file:
                if file.read() != self.job:
                    return False
                return _lock(file, exclusive=False)
        except OSError:
            return False

    def died(self) -> str | None:
        """The sentence about a process that died; None where none has."""
        gone = [(rank, last) for rank, last in self._gone() if last is None or last.kind != "done"]
        causes = [item for item in gone if item[1] is None or item[1].kind == "error"]
        for rank, last in causes or gone:
            if last is not None and last.kind == "peer":
                return last.sentence
            of = (
                "died without a word: it was killed, perhaps for want of memory"
                if last is None
                else f"ended early ({last.sentence.rstrip('.')})"
            )
            said = f"rank {rank} of {self.world} processes {of}"
            return f"{said}." if "same command" in of else f"{said}; {_AGAIN}"
        return None

    def _await_death(self, likely: bool) -> str | None:
        until = time.monotonic() + (self.grace if likely else 0.0)
        while (found := self.died()) is None and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if self.died() is None:
                continue
            if self._over.wait(self.grace):
                return  # the main thread has noticed by itself
            found = self.died()
            if found is not None:
                print(f"error: {found}", file=sys.stderr, flush=True)
                self._leave(Last("peer", found))
                self.end(BAD_INPUT)
                return


def _can_lock() -> bool:
    try:
        import fcntl  # noqa: F401
    except ImportError:  # Windows, where no run has several processes
        return False
    return True


def _lock(file: IO[str], exclusive: bool) -> bool:
    """Lock a file for this process alone, and not for those it forks; False if another one has it.

    A file system without locks has been refused before, see `alseg.cli.world.FolderLock`.
    """
    import fcntl

    try:
        fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
