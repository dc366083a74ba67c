"""Export of the round that waits, and import of what a tool says into its ``answers.csv``."""

import csv
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import VOID
from alseg.core.progress import progress_bar
from alseg.exchange.collect import Answer, collect, meaning
from alseg.exchange.formats import check_fits
from alseg.exchange.model import Format, Task
from alseg.exchange.sheets import make_task
from alseg.exchange.sources import Source
from alseg.label.journal import LOCK, read_lines
from alseg.label.session import Session, find_open, read_session
from alseg.label.suggestions import suggest_from_run
from alseg.labels.answer_masks import write_answer_mask
from alseg.labels.answerfile import Line, parse_lines, raise_mistakes, read_bytes
from alseg.labels.human import ANSWERS

#: Folder of a round for exports, and for what imports keep.
FOLDER = "exchange"
_SHOWN = 20


class Exported(NamedTuple):
    """What an export wrote."""

    folder: Path
    questions: int
    pictures: int


class Imported(NamedTuple):
    """What an import wrote."""

    path: Path
    new: int
    known: int  #: Rows that were answered alike before.
    missing: list[int]  #: Rows of the query without an answer.


def export_round(
    run_dir: Path,
    form: Format,
    out: Path | None = None,
    crops: bool = False,
    suggestions: bool = False,
    rows: int | None = None,
) -> Exported:
    """Write the open questions of the round that waits.

    Args:
        run_dir: Folder of the run.
        form: The format.
        out: Folder to write, which must not be there; None = below the folder of the round.
        crops: A crop for each question, in the place of whole images.
        suggestions: Add what the model of the round before would answer.
        rows: At most the first so many open questions; None = all.

    Raises:
        UserError: If no round waits, the format cannot hold what is asked, or the folder is there.
    """
    folder = find_open(run_dir)
    session = read_session(folder)
    out = folder / FOLDER / form.name if out is None else out
    with _alone(folder):
        answered = _answered(folder, session)
    open_rows = [row for row in range(len(session)) if row not in answered][:rows]
    if not open_rows:
        raise UserError(f"{folder / ANSWERS} answers all questions; give the run's command again.")
    if out.exists():
        raise UserError(f"{out} is there already, maybe with answers in it; give out=FOLDER.")
    if suggestions and session.query.answer == "mask" and not form.predictions:
        raise UserError(f"format={form.name} has no place for suggested masks; leave them off.")
    check_fits(form, make_task(session, open_rows[:1], crops))
    hints = suggest_from_run(session, run_dir) if suggestions else None
    task = make_task(session, open_rows, crops, hints)
    _write(form, task, out)
    return Exported(out, len(open_rows), len(task.sheets))


def _write(form: Format, task: Task, out: Path) -> None:
    """Write the files of an export: all of them, or none."""
    part = out.with_name(f".{out.name}.part")
    if part.exists():  # of an export that was stopped
        shutil.rmtree(part)
    try:
        few = len(task.sheets) < 100
        for name, content in progress_bar(form.write(task), "exporting", unit="file", hidden=few):
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def import_answers(
    run_dir: Path,
    form: Format,
    file: Path | None = None,
    rest: str | None = None,
    replace: bool = False,
    timed: bool = False,
) -> Imported:
    """Add what a tool says to ``answers.csv``; nothing is written if anything is wrong.

    Args:
        run_dir: Folder of the run.
        form: The format.
        file: A file, folder or zip archive; None = the folder that `export_round` wrote.
        rest: See `alseg.exchange.collect.collect`.
        replace: Take answers that differ from those that are there.
        timed: Take the wall time that the file knows as the seconds of the answers.

    Raises:
        UserError: With all that is wrong.
    """
    folder = find_open(run_dir)
    session = read_session(folder)
    source = Source(folder / FOLDER / form.name if file is None else file)
    every = range(len(session))
    sheets = [make_task(session, every, crops) for crops in (False, True)]
    task = Task(
        sheets[0].answer, sheets[0].unit, session.names, session.colors,
        (*sheets[0].sheets, *sheets[1].sheets), sheets[0].files,
    )  # fmt: skip
    check_fits(form, task)
    with _alone(folder):
        lines = _answered(folder, session)
        found, mistakes = collect(form.read(source, task), task, session, rest)
        new, differing = _compare(found, lines, session)
        if not replace:
            mistakes += [
                f"{text}; give replace=true to take what is said now" for text in differing.values()
            ]
        _raise(source.path, mistakes)
        if not found:
            raise UserError(f"{source.path} answers no question; answer some, and import again.")
        changed = {row: found[row] for row in (*new, *differing)}
        if changed:
            _merge(folder, session, lines, changed, timed)
    answered = {*lines, *found}
    missing = [row for row in every if row not in answered]
    return Imported(folder / ANSWERS, len(changed), len(found) - len(changed), missing)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep the page away, and refuse a round that is answered there.

    Raises:
        UserError: If the page asks its questions, or was told answers.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            told, _ = read_lines(folder / "answers.jsonl")
            if any(line["do"] in ("answer", "draft") for line in told):
                raise UserError(
                    f"{folder / 'answers.jsonl'} holds answers that were given in the browser; "
                    f"answer the rest there, or move that file away."
                )
            yield
    except Timeout as error:
        raise UserError(f"the page of {folder} is open; stop it first.") from error


def _answered(folder: Path, session: Session) -> dict[int, Line]:
    """The lines of the answers file by row; none where there is no file."""
    path = folder / ANSWERS
    if not path.exists():
        return {}
    lines = parse_lines(path, read_bytes(path), len(session))
    raise_mistakes(path, lines.mistakes)
    return lines.of


def _compare(
    found: dict[int, Answer], lines: dict[int, Line], session: Session
) -> tuple[list[int], dict[int, str]]:
    """Rows that are answered for the first time, and those that were answered otherwise."""
    new, differing = [], {}
    for row, answer in found.items():
        if row not in lines:
            new.append(row)
            continue
        before = lines[row].answer
        if answer.labels is not None:
            same = before == _mask_name(row, answer)
        else:
            try:
                same = meaning(before.split(";"), row, session)[1] == answer.value
            except ValueError:
                same = False
        if not same:
            now = "other pixels" if answer.labels is not None else repr(answer.text)
            differing[row] = f"row {row} is {before!r} in {ANSWERS} and {now} in {answer.where}"
    return new, differing


def _merge(
    folder: Path, session: Session, lines: dict[int, Line], changed: dict[int, Answer], timed: bool
) -> None:
    path = folder / ANSWERS
    rows = {row: (line.answer, line.seconds) for row, line in lines.items()}
    for row, answer in changed.items():
        text = answer.text
        if answer.labels is not None:
            text = _mask_name(row, answer)
            _write_mask(folder / text, session, row, answer.labels)
        seconds = f"{answer.seconds:.3f}" if timed and answer.seconds is not None else ""
        rows[row] = (text, seconds)
    if path.exists():  # other columns and their order are a person's work, too
        number = 1
        while (kept := folder / FOLDER / f"answers_before_{number:03d}.csv").exists():
            number += 1
        write_atomic(kept, path.read_bytes())
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    has_seconds = any(seconds for _, seconds in rows.values())
    table.writerow(("row", "answer", "seconds") if has_seconds else ("row", "answer"))
    for row, cells in sorted(rows.items()):
        table.writerow((row, *cells) if has_seconds else (row, cells[0]))
    write_atomic(path, buffer.getvalue())


def _mask_name(row: int, answer: Answer) -> str:
    """Path of a mask below the folder of the round; other labels have another name."""
    assert answer.labels is not None
    digest = blake2b(answer.labels.tobytes(), digest_size=6).hexdigest()
    return f"{FOLDER}/masks/{row:06d}_{digest}.png"


def _write_mask(path: Path, session: Session, row: int, labels: np.ndarray) -> None:
    """A label image of the loaded size, void outside the unit."""
    size = session.pictures[int(session.query.image[row])].size
    whole = np.full(size, VOID, dtype=np.uint8)
    top, left, bottom, right = session.boxes[row].tolist()
    whole[top:bottom, left:right][session.mask(row)] = labels
    write_answer_mask(path, whole)


def _raise(path: Path, mistakes: list[str]) -> None:
    if mistakes:
        more = [f"and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
        told = "; ".join([*(m.rstrip(".") for m in mistakes[:_SHOWN]), *more])
        raise UserError(f"{path}: {told}{'' if told.endswith('?') else '.'}")


def spans(rows: Iterable[int]) -> str:
    """Numbers of rows, neighbours together.

    >>> spans([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7, 8'
    """
    ordered = sorted(rows)
    cuts = [i for i, (a, b) in enumerate(pairwise(ordered), start=1) if b != a + 1]
    texts = []
    for start, end in pairwise([0, *cuts, len(ordered)]):
        run = ordered[start:end]
        texts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run))
    return ", ".join(texts)
