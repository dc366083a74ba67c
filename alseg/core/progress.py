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
    if not is_watched():
        options |= {"file": _Lines(sys.stderr), "mininterval": INTERVAL, "maxinterval": INTERVAL}
        options |= {"ncols": 0, "delay": INTERVAL, "miniters": 1}
    return tqdm(iterable, desc or None, total=total, unit=unit, disable=hidden, **options)


class _Lines:
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
