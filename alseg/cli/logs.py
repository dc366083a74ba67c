"""What a run says: on the terminal, and in ``log.txt`` of its folder, which is only added to."""

import logging
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from alseg.core.errors import UserError
from alseg.core.progress import LINES, is_watched

#: File of a run folder.
LOG = "log.txt"
_FORM = "%(asctime)s %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"
#: Loggers of Lightning that speak of devices and its own offers. The levels of their parents are
#: set when Lightning is imported, which may be later.
_CHATTY = tuple(
    f"lightning.{part}.utilities.{name}"
    for part in ("pytorch", "fabric")
    for name in ("rank_zero", "seed", "distributed")
)
log = logging.getLogger(__name__)


def quieten(is_first: bool) -> None:
    """Let one process speak, and of the libraries only what a user can act on."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alseg").setLevel(logging.INFO if is_first else logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for noise in (
        ".*does not have many workers.*",
        ".*have no `validation_step`.*",  # not every stage is evaluated
        ".*exists and is not empty.*",  # a stage folder holds more than its checkpoint
        ".*predict returned None.*",  # pseudo labels go to files
        ".*`srun` command is available.*",  # one process may well run without it
        ".*LeafSpec.*",  # between Lightning and torch
        ".*find_unused_parameters=True was specified.*",
        ".*in eval mode at the start of training.*",  # methods freeze parts on purpose
        ".*recommended to use `self.log.*sync_dist.*",  # the metric is the same on every device
        ".*overridden `on_before_batch_transfer`.*",  # ours is meant to be used
    ):
        warnings.filterwarnings("ignore", noise)


class RunLog:
    """``log.txt`` of a run folder, while the run is at work."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def write(self, text: str, level: int = logging.INFO) -> None:
        """Add a line."""
        record = logging.LogRecord(log.name, level, __file__, 0, text, None, None)
        self._handler.handle(record)

    def say(self, sentence: str, stream: TextIO | None = None) -> None:
        """Print a sentence, on the standard output unless said otherwise, and add it."""
        print(sentence, file=stream, flush=True)
        self.write(sentence)


@contextmanager
def logged(root: Path, rank: int) -> Iterator[RunLog]:
    """Within this, what is said goes into ``log.txt`` as well, and how it ended.

    The first process writes all it says, the others warnings and errors, with their number. A line
    is written in one piece, so that several processes can add to the file.

    Args:
        root: The run folder.
        rank: Number of this process, 0 for the first.
    """
    handler = logging.FileHandler(root / LOG, encoding="utf-8", errors="backslashreplace")
    prefix = "" if rank == 0 else f"[process {rank}] "
    handler.setFormatter(logging.Formatter(_FORM.replace(" ", f" {prefix}", 1), _TIME))
    handler.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    top = logging.getLogger()
    shown = [other for other in top.handlers if is_watched()]
    for other in shown:
        other.addFilter(_no_lines)
    top.addHandler(handler)
    said = RunLog(handler)
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: object) -> None:
        before(message, category, *place)  # type: ignore[arg-type]
        said.write(f"{category.__name__}: {message}", logging.WARNING)

    warnings.showwarning = show  # type: ignore[assignment]
    if rank == 0:
        said.write(f"begun on {socket.gethostname()}: {' '.join(sys.argv[1:])}")
    try:
        yield said
    except UserError as error:
        said.write(f"error: {error}", logging.ERROR)
        raise
    except Exception:
        said.write(f"error:\n{traceback.format_exc().rstrip()}", logging.ERROR)
        raise
    finally:
        warnings.showwarning = before
        top.removeHandler(handler)
        for other in shown:
            other.removeFilter(_no_lines)
        handler.close()


def _no_lines(record: logging.LogRecord) -> bool:
    """Whether a record belongs beside bars."""
    return record.name != LINES.name
