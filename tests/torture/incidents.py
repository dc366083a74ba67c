"""What happens to a run: each incident is a function of a seed, and ends with a verdict."""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.runs import Process, difference, start, words_of, world_of

#: Where in the write of a checkpoint a process is killed.
PLACES = ("in its bytes", "before fsync", "before the rename", "after the rename")
#: Seconds in which the other processes have to end after one has died.
PATIENCE = 60.0


@dataclass(frozen=True)
class Whole:
    """An undisturbed run.

    Attributes:
        root: Its folder.
        seconds: What it took.
        saves: Checkpoints it wrote.
        writes: Files it opened to write to, and folders it made.
    """

    root: Path
    seconds: float
    saves: int
    writes: int


@dataclass(frozen=True)
class Outcome:
    """What came of an incident.

    Attributes:
        what: What was done to the run, and when.
        hit: Whether it happened before the run had ended.
        verdict: ``equal``, or what is wrong.
    """

    what: str
    hit: bool
    verdict: str


class Bench:
    """Does runs in a folder, and compares disturbed with undisturbed ones.

    Args:
        folder: Takes the runs of the kinds of incident that do not fill a disk.
        disk: A small file system that may be filled; None = there is none.
        elsewhere: A folder on another file system than ``folder``, for temporary files.
    """

    def __init__(self, folder: Path, disk: Path | None, elsewhere: Path) -> None:
        self.folder, self.disk, self.elsewhere = folder, disk, elsewhere
        self._whole: dict[tuple[str, int], Whole] = {}

    def whole(self, method: str, world: int = 1) -> Whole:
        """The undisturbed run of a method, done once."""
        if (method, world) not in self._whole:
            root = self.folder / f"whole_{method}_{world}"
            shutil.rmtree(root, ignore_errors=True)
            tally = self.folder / "tally"
            since = time.monotonic()
            self._done(self._start(method, root, world, before=lambda: _count(root, tally)))
            seconds = time.monotonic() - since
            counted = tally.read_text()
            self._whole[method, world] = Whole(
                root, seconds, counted.count("s"), counted.count("w")
            )
        return self._whole[method, world]

    def _start(
        self,
        method: str,
        root: Path,
        world: int = 1,
        before: Callable[[], None] | None = None,
    ) -> list[Process]:
        words = [*words_of(method), f"run_dir={root}", f"cache={root}/cache"]

        def prepare() -> None:
            tempfile.tempdir = str(self.elsewhere)
            if before is not None:
                before()

        return [
            start(words, self.folder / f"log_{rank}", variables, prepare)
            for rank, variables in enumerate(world_of(world))
        ]

    def _done(self, processes: Sequence[Process]) -> None:
        for process in processes:
            if status := process.wait():
                raise RuntimeError(f"status {status}: {said(process)}")

    def _again(self, method: str, root: Path, world: int = 1) -> str:
        """Give the same command, and say whether the run is what it would have been."""
        try:
            self._done(self._start(method, root, world))
        except (RuntimeError, TimeoutError) as error:
            return f"cannot go on: {error}"
        left = [p.name for p in root.rglob(".writing-*")]
        if left:
            return f"left {left[0]} behind"
        if any(self.elsewhere.iterdir()):
            return "left files in TMPDIR"
        return difference(self.whole(method, world).root, root) or "equal"

    def _fresh(self, folder: Path) -> Path:
        root = folder / "run"
        shutil.rmtree(root, ignore_errors=True)
        return root

    def kill(self, method: str, rng: random.Random) -> Outcome:
        """SIGKILL at a random instant."""
        whole, root = self.whole(method), self._fresh(self.folder)
        instant = rng.uniform(0.02, 0.98)
        (process,) = self._start(method, root)
        time.sleep(instant * whole.seconds)
        hit = process.poll() is None
        process.kill()
        return Outcome(f"at {instant:.0%} of the run", hit, self._again(method, root))

    def write(self, method: str, rng: random.Random) -> Outcome:
        """SIGKILL while a checkpoint is written, TMPDIR being on another file system."""
        whole, root = self.whole(method), self._fresh(self.folder)
        number, place = rng.randint(1, whole.saves), rng.choice(PLACES)
        share = rng.uniform(0.05, 0.95)
        (process,) = self._start(method, root, before=lambda: _die_saving(number, place, share))
        what = f"checkpoint {number} of {whole.saves}, {place}"
        try:
            status = process.wait()
        except TimeoutError as error:
            return Outcome(what, True, str(error))
        return Outcome(what, status == -signal.SIGKILL, self._again(method, root))

    def rank(self, method: str, rng: random.Random) -> Outcome:
        """SIGKILL of one of two processes; the other has to end, and say in a sentence why."""
        whole, root = self.whole(method, 2), self._fresh(self.folder)
        instant, victim = rng.uniform(0.02, 0.98), rng.randrange(2)
        processes = self._start(method, root, 2)
        time.sleep(instant * whole.seconds)
        hit = all(process.poll() is None for process in processes)
        processes[victim].kill()
        what = f"rank {victim} at {instant:.0%} of the run"
        other = processes[1 - victim]
        try:
            status = other.wait(PATIENCE)
        except TimeoutError as error:
            return Outcome(what, hit, f"the other process {error}")
        if hit and status:
            told = said(other, 400)
            if "Traceback" in told or f"rank {victim}" not in told:
                return Outcome(what, hit, f"the other process says: {told[-200:]}")
        return Outcome(what, hit, self._again(method, root, 2))

    def full(self, method: str, rng: random.Random, number: int | None = None) -> Outcome:
        """A disk that is full at the n-th write; room is made, and the same command given."""
        assert self.disk is not None
        whole, root = self.whole(method), self._fresh(self.disk)
        chosen = rng.randint(1, whole.writes) if number is None else number
        filler = self.disk / "filler"
        (process,) = self._start(method, root, before=lambda: _fill_at(chosen, root, filler))
        what = f"write {chosen} of {whole.writes}"
        try:
            status = process.wait()
        except TimeoutError as error:
            return Outcome(what, True, str(error))
        finally:
            hit = filler.exists()
            filler.unlink(missing_ok=True)
        told = said(process, 2000)
        if status not in (0, 2) or "Traceback" in told:
            return Outcome(what, hit, f"status {status}: {told[-200:]}")
        return Outcome(what, hit, self._again(method, root))


def said(process: Process, most: int = 300) -> str:
    """The end of what a process said."""
    return process.log.read_text(errors="replace").strip()[-most:]


def _is_write(event: str, arguments: tuple[Any, ...], root: Path) -> bool:
    if event not in ("open", "os.mkdir"):
        return False
    path, _mode, flags = (*arguments, None, None)[:3]
    if not isinstance(path, str | os.PathLike) or not str(path).startswith(str(root)):
        return False
    if event == "os.mkdir":
        return True
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _count(root: Path, tally: Path) -> None:
    """Note the writes and checkpoints of this process."""
    from alseg.active.checkpoints import WholeFiles

    notes = os.open(tally, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _is_write(event, arguments, root):
            os.write(notes, b"w")

    sys.addaudithook(hook)
    save = WholeFiles.save_checkpoint

    def noted(self: WholeFiles, *arguments: Any, **options: Any) -> None:
        os.write(notes, b"s")
        save(self, *arguments, **options)

    WholeFiles.save_checkpoint = noted  # type: ignore[method-assign]


def _fill_at(number: int, root: Path, filler: Path) -> None:
    """Fill the file system before the n-th write."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if left and _is_write(event, arguments, root):
            left -= 1
            if not left:
                _fill(filler)

    sys.addaudithook(hook)


def _fill(filler: Path) -> None:
    """Take what room there is."""
    with filler.open("wb") as file:
        room = os.statvfs(filler.parent)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Cut:
    """A file whose writer dies after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        part = bytes(data)[: self.room]
        self.file.write(part)
        self.room -= len(part)
        if not self.room:
            self.file.flush()
            _die()
        return len(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _die_saving(number: int, place: str, share: float) -> None:
    """Die in the write of the n-th checkpoint."""
    import torch

    from alseg.active.checkpoints import WholeFiles

    save, fsync, replace, whole = torch.save, os.fsync, os.replace, WholeFiles.save_checkpoint
    left = number

    def cut(content: Any, file: Any, *arguments: Any, **options: Any) -> None:
        measured = _Length()
        save(content, measured)
        save(content, _Cut(file, max(1, int(share * measured.length))), *arguments, **options)

    def at_fsync(handle: int) -> None:
        _die()

    def at_replace(*arguments: Any, **options: Any) -> None:
        if place == "after the rename":
            replace(*arguments, **options)
        _die()

    def saving(self: WholeFiles, *arguments: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            if place == PLACES[0]:
                torch.save = cut
            elif place == PLACES[1]:
                os.fsync = at_fsync  # type: ignore[assignment]
            else:
                os.replace = at_replace  # type: ignore[assignment]
        whole(self, *arguments, **options)
        torch.save, os.fsync, os.replace = save, fsync, replace

    WholeFiles.save_checkpoint = saving  # type: ignore[method-assign]


class _Length:
    """Counts bytes."""

    length = 0

    def write(self, data: Any) -> int:
        self.length += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def mount(folder: Path, size: str) -> bool:
    """Put a file system in memory there; False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()) == 0


#: Kinds of incident, and what each is called in the table.
KINDS: dict[str, str] = {
    "kill": "kill -9 at a random instant",
    "write": "kill -9 in a checkpoint's write",
    "rank": "kill -9 of one of two processes",
    "full": "disk full at a write",
}
