"""The file of results: one line per round of every run that was finished."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from filelock import FileLock

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from experiments.study.plan import ROWS, Job

#: What was asked in a round, see `experiments.study.questions`.
ASKED = ("asked_images", "asked_top_tenth", "asked_void", "asked_rare")
#: What the study adds to the columns of ``rounds.csv``: the row and the seed; the answers so far
#: that named void; seconds of processor time of the whole run; what was asked.
OWN = ("row", "seed", "void", "cpu_s", *ASKED)
_NEEDED = ("row", "seed", "miou", "cpu_s")

Rows = list[dict[str, str]]


def read(path: Path) -> dict[Job, Rows]:
    """What is finished, by run, in the order of the plan; nothing where there is no file.

    Raises:
        UserError: For a file of other columns, or of rows that the plan does not have.
    """
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found: dict[Job, Rows] = {}
    for line in lines:
        if not set(_NEEDED) <= set(line) or line["row"] not in ROWS:
            raise UserError(
                f"{path} is no file of results of this study: the columns {', '.join(_NEEDED)} are "
                f"needed, and rows of its plan; restore it from a copy."
            )
        found.setdefault(Job(line["row"], int(line["seed"])), []).append(line)
    return _sorted(found)


def add(path: Path, job: Job, rows: Iterable[Mapping[str, object]]) -> None:
    """Add a finished run to the file, beside what other processes add.

    Args:
        path: The file; it is made.
        job: The run.
        rows: A line per round, without row and seed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # parts may share a machine
        found = read(path)
        own = {"row": job.row, "seed": str(job.seed)}
        found[job] = [own | {name: str(value) for name, value in row.items()} for row in rows]
        write_atomic(path, text(_sorted(found)))


def text(found: Mapping[Job, Rows]) -> str:
    """The file's content."""
    lines = [line for rows in found.values() for line in rows]
    columns = dict.fromkeys(name for line in lines for name in line)
    ious = [name for name in columns if name.startswith("iou_")]
    middle = [name for name in columns if name not in {*OWN, *ious}]
    names = [*OWN[:2], *middle, *OWN[2:], *ious]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _sorted(found: Mapping[Job, Rows]) -> dict[Job, Rows]:
    order = {name: place for place, name in enumerate(ROWS)}
    return dict(sorted(found.items(), key=lambda pair: (order[pair[0].row], pair[0].seed)))
