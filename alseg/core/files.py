"""Files that are there whole or not at all."""

import gc
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from alseg.core.errors import UserError

#: Bytes of a text file that is read, at most.
MOST_BYTES = 1 << 28


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which would look through long lists of files again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written, for a reader to see the old one until it is finished.

    Args:
        path: Target; missing parent folders are made. After an error, or a crash at any instant,
            it is as it was.

    Raises:
        OSError: Naming the target, also where the system names nothing, as of a full disk.
    """
    try:
        with _renamed(path) as file:
            yield file
    except OSError as error:
        unnamed = error.filename is None or Path(str(error.filename)).parent == path.parent
        if unnamed and error.errno is not None:  # else it is no error of the system
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def _renamed(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp gives 0600, which hides the file from a shared run
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any instant, sees the old one or the new one.

    Args:
        path: Target; missing parent folders are made.
        content: Bytes, or text written as UTF-8.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def require_file(path: Path, most: int | None = None) -> None:
    """Refuse what is no regular file: opening a pipe would wait for ever, a device never ends.

    Args:
        path: Links are followed.
        most: Its bytes, at most; None for any number.

    Raises:
        UserError: If it is no regular file, or larger.
        OSError: If it is not there.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{path} is not a file; put the file itself there, or take it away.")
    if most is not None and about.st_size > most:
        raise UserError(
            f"{path} has {about.st_size >> 20} MiB, more than the {most >> 20} that such a file "
            f"may have; restore it from a copy."
        )


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8.

    Raises:
        UserError: If it is no regular file, too large, or no such text.
        OSError: If it cannot be opened.
    """
    require_file(path, most)
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({error}); restore it from a copy.") from error


def read_json(path: Path, kind: type[Any] = dict, mend: str = "restore it from a copy") -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        kind: What it has to hold, ``dict`` or ``list``.
        mend: What to do with a damaged one.

    Raises:
        UserError: If it cannot be read, or holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{path} cannot be read (it is nested too deeply); {mend}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); {mend}.") from error
    if not isinstance(content, kind):
        wanted = "no list" if kind is list else "no names"
        raise UserError(f"{path} cannot be read (it holds {wanted}); {mend}.")
    return content
