"""Answers as they are given: lines of JSON, each on the disk before it is acknowledged."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from alseg.core.errors import UserError

log = logging.getLogger(__name__)

Line = dict[str, Any]


#: Held by the process that writes the journal of a round.
LOCK = ".answers.lock"


class Journal:
    """A file of lines that grows at its end, with one process writing.

    Args:
        path: ``answers.jsonl`` of a round. It is made with the first line.
        digest: Names the questions; the first line repeats it.

    Attributes:
        lines: The lines that were there, in order, without the first.

    Raises:
        UserError: If another process has it open, it belongs to other questions, or it is damaged
            anywhere but in its last line.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self._lock = FileLock(path.with_name(LOCK))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"another process asks these questions already ({path}); open the link it printed, "
                f"or stop it."
            ) from error
        try:
            self.lines, torn = read_lines(path)
            if self.lines and self.lines[0].get("digest") != digest:
                raise UserError(
                    f"{path} holds answers to other questions; move it away to begin anew."
                )
        except BaseException:
            self._lock.release()
            raise
        new = not self.lines
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.lseek(self._file, 0, os.SEEK_END)
        if torn:
            # it was never acknowledged; kept as text, so that nothing goes without a trace
            os.ftruncate(self._file, os.lseek(self._file, -len(torn), os.SEEK_END))
            log.warning("the last line of %s was cut off, it is set aside", path)
        if new:
            self.append({"do": "begin", "version": 1, "digest": digest})
            _sync_folder(path.parent)
        if torn:
            self.append({"do": "torn", "text": torn.decode("utf-8", "replace")})
        self.lines = self.lines[1:]

    def append(self, line: Line) -> None:
        """Write a line, and return when it is on the disk."""
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:  # a full disk must not leave half a line for the next one to join
            os.ftruncate(self._file, end)
            raise

    def close(self) -> None:
        """Let other processes write."""
        os.close(self._file)
        self._file = -1  # the number may come to mean another file
        self._lock.release()


def read_lines(path: Path) -> tuple[list[Line], bytes]:
    """The whole lines of a journal, and what stands behind the last line end.

    Raises:
        UserError: If a line is damaged.
    """
    if not path.exists():
        return [], b""
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    lines: list[Line] = []
    for number, text in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or "do" not in line:
                raise ValueError("it is no entry")
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is damaged ({error}); restore the file from a copy, or "
                f"delete the line to answer its question again."
            ) from error
        lines.append(line)
    return lines, torn


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its content, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
