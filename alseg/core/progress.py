"""Progress of long work: bars where somebody looks on, else a line now and then."""

import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

#: Progress as lines. Where bars are shown, its records go to files alone.
LINES = logging.getLogger("alseg.progress")
#: Seconds between two lines.
INTERVAL = 30.0


def is_watched() -> bool:
    """Whether somebody looks on: output goes to a terminal or into a notebook."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()


def progress_bar(
    iterable: Iterable[Any] | None = None,
    desc: str = "",
    *,
    total: float | None = None,
    unit: str = "it",
    hidden: bool = False,
    **options: Any,
) -> tqdm:
    """A bar of tqdm; where nobody looks on, it writes a line every `INTERVAL` seconds instead.

    Args:
        iterable: What is gone through; None for a bar that is moved by hand.
        desc: What is done.
        total: Steps; None = the length of what is gone through.
        unit: What one step is.
        hidden: Show nothing.
        **options: Further ones of tqdm.
    """
    given = {"desc": desc or None, "total": total, "unit": unit, "disable": hidden}
    return (tqdm if is_watched() else _Lines)(iterable, **given, **options)


class _Lines(tqdm):
    """A bar that writes a line every `INTERVAL` seconds, and one when all is done."""

    def __init__(self, iterable: Iterable[Any] | None, **options: Any) -> None:
        seldom = {"mininterval": INTERVAL, "maxinterval": INTERVAL, "miniters": 1}
        # a delay too short to be noticed: without one the first line would come before any work
        shape = {"ncols": 0, "delay": 1e-9, "file": _Stream(sys.stderr)}
        super().__init__(iterable, **options, **seldom, **shape)

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Say what is done, in the next line."""
        super().set_description(desc, refresh=False)


class _Stream:
    """A stream in which a bar's repainting becomes lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what is to be seen of a repainting, if anything."""
        shown = text.strip()
        return self._stream.write(f"{shown}\n") if shown else 0

    def flush(self) -> None:
        """Flush."""
        self._stream.flush()
