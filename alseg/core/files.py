"""Files that are there whole or not at all."""

import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any instant, sees the old one or the new one.

    Args:
        path: Target; missing parent folders are made.
        content: Bytes, or text written as UTF-8.

    Raises:
        OSError: Naming the target, also where the system names nothing, as of a full disk.
    """
    try:
        _write(path, content)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _write(path: Path, content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp gives 0600, which hides the file from a shared run
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
