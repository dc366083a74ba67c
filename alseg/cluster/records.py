"""What has become of the runs of a sweep: records that jobs write, and run folders."""

import csv
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from alseg.core.errors import UserError
from alseg.core.files import write_atomic

#: ``queued``: not begun, or to be started again by its scheduler. ``lost``: it said that it was
#: running, and stopped without a word. ``waiting``: for a person's answers.
State = Literal["queued", "running", "lost", "waiting", "done", "failed"]
STATES: tuple[State, ...] = ("queued", "running", "lost", "waiting", "done", "failed")
#: Folder of the records in that of a sweep.
RECORDS = ".sweep"
#: Seconds between two touches of the record of a running job, and without one until it is lost.
_BEAT, _PATIENCE = 10.0, 90.0
#: Longest sentence kept.
_MOST = 2_000


@dataclass(frozen=True)
class Record:
    """What a job last said of itself.

    Attributes:
        state: See `State`; ``lost`` is never written.
        sentence: Why it failed, or what it waits for.
        began: When its work began, in seconds since 1970.
        ended: When it ended; None while it runs.
        host: Machine it ran on.
        job: Its number at the scheduler.
        rounds_before: Rounds that were finished when it began.
    """

    state: State = "queued"
    sentence: str = ""
    began: float | None = None
    ended: float | None = None
    host: str = ""
    job: str = ""
    rounds_before: int = 0


def record_path(root: Path) -> Path:
    """Where the record of a run folder lies."""
    return root.parent / RECORDS / f"{root.name}.json"


def read_record(root: Path) -> Record:
    """The record of a run folder; that of a queued job where there is none.

    A job that has not touched its record for some time is ``lost``.

    Raises:
        UserError: If the record is damaged.
    """
    path = record_path(root)
    try:
        touched = path.stat().st_mtime
        content = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**content)
        if record.state not in STATES:
            raise ValueError(f"there is no state {record.state!r}")
    except FileNotFoundError:
        return Record()
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it: the run is then started again, and goes "
            f"on where it was."
        ) from error
    if record.state == "running" and time.time() - touched > _PATIENCE:
        return replace(record, state="lost", sentence="its process ended without a word")
    return record


def write_record(root: Path, record: Record) -> None:
    """Replace the record of a run folder."""
    content = asdict(replace(record, sentence=record.sentence[:_MOST]))
    write_atomic(record_path(root), json.dumps(content, indent=1) + "\n")


@contextmanager
def running(root: Path, job: str) -> Iterator[Record]:
    """Within this a record says that the run is at work, from this machine, and is touched."""
    record = Record(
        "running",
        began=time.time(),
        host=socket.gethostname(),
        job=job,
        rounds_before=finished_rounds(root),
    )
    write_record(root, record)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_BEAT):
            with suppress(OSError):  # a full or absent disk will be told by the run itself
                os.utime(record_path(root))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield record
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        name: Of its folder.
        state: See `State`.
        rounds: Finished.
        of: Rounds it shall have; None = not known.
        left: Seconds that the rounds left will take, as those of this job took; None = not known.
        sentence: See `Record`.
    """

    name: str
    state: State
    rounds: int
    of: int | None
    left: float | None
    sentence: str


def progress(root: Path, rounds: int | None) -> Progress:
    """How far the run of a folder is.

    Args:
        root: The run folder.
        rounds: Rounds it shall have.

    Raises:
        UserError: If its record is damaged.
    """
    record, finished = read_record(root), finished_rounds(root)
    left = None
    done = finished - record.rounds_before
    if record.state == "running" and record.began is not None and rounds and done > 0:
        left = max(0.0, (_last_round(root) - record.began) / done * (rounds - finished))
    return Progress(root.name, record.state, finished, rounds, left, record.sentence)


def finished_rounds(root: Path) -> int:
    """Rounds of a run folder that were evaluated."""
    try:
        with (root / "rounds.csv").open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return 0


def _last_round(root: Path) -> float:
    """When the last round was finished."""
    try:
        return (root / "rounds.csv").stat().st_mtime
    except OSError:
        return time.time()


def written(progress: Progress) -> dict[str, Any]:
    """A row of the table of states."""
    of = "?" if progress.of is None else str(progress.of)
    return {
        "run": progress.name,
        "state": progress.state,
        "rounds": f"{progress.rounds}/{of}",
        "left": "" if progress.left is None else span(progress.left),
        "why": progress.sentence,
    }


def span(seconds: float) -> str:
    """A duration in words.

    >>> span(42), span(190), span(7500)
    ('42 s', '3 min', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
