"""Questions to a person and their answers, as files anyone can open."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.files import write_atomic
from alseg.core.images import VOID, ImageSet
from alseg.labels.answer_masks import describe_values, read_answer_mask
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Written
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Answers, Query

VOID_WORD = "void"
_SHOWN = 20


def check_names(names: Sequence[str]) -> None:
    """Refuse class names that an answers file cannot tell apart.

    Raises:
        UserError: For a class called like void, or with a semicolon or a blank at an end.
    """
    bad = [n for n in names if n == VOID_WORD or ";" in n or n != n.strip() or not n]
    if bad:
        raise UserError(
            f"oracle=human cannot take the class names {bad}: {VOID_WORD!r} is the answer for no "
            f"class, and semicolons separate classes; rename them in the class table."
        )


def write_questions(query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> None:
    """Write ``questions.csv`` and ``HOW_TO_ANSWER.txt`` for a query into a folder.

    Args:
        query: What is asked, in order.
        pool: Knows the region maps.
        images: The pool's images.
        folder: Folder of the round.
    """
    boxes = unit_boxes(query, pool)
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["row", "image", "unit", "top", "left", "bottom", "right"])
    for row in range(len(query)):
        name = images.names[int(query.image[row])]
        table.writerow([row, name, int(query.unit[row]), *(int(side) for side in boxes[row])])
    write_atomic(folder / "questions.csv", buffer.getvalue())
    kind = KINDS[query.answer]
    names = [*kind.names(images), VOID_WORD]
    budget = pool.budget
    until = ", all of them"
    if budget.amount < float("inf"):
        until = f", until {budget.amount:g} {budget.axis} are spent or you have no more"
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names[:-1]))
    listed += f", {VOID} {VOID_WORD}"
    if query.answer == "mask":  # what the masks of this data set hold, ids or colours
        listed = describe_values(images)
    text = (
        f"Answer the questions of questions.csv{until}.\n"
        f"Write answers.csv beside this file, with a first line\n\n    row,answer\n\n"
        f"and one line per question: its row number, and {kind.question.format(unit=query.kind)}. "
        f"For example:\n\n    0,{kind.example.format(*names)}\n\n"
        f"Lines may stand in any order; the rows from 0 on without a gap count. Names may be "
        f"shortened, as long as they are clear, and written in small letters or capitals. A "
        f"third column named seconds may hold the time each answer took.\n"
        f"Boxes are in pixels: top and left inclusive, bottom and right exclusive.\n\n"
        f"{'Classes' if kind.covers_pixels else 'Scenes'}: {listed}.\n"
        f"'{VOID_WORD}' is for what belongs to none of them.\n"
    )
    write_atomic(folder / "HOW_TO_ANSWER.txt", text)


def unit_boxes(query: Query, pool: LabelPool) -> NDArray[np.int64]:
    """Bounding box of every unit: top, left, bottom, right (exclusive), (n, 4), int64."""
    from alseg.regions.geometry import bounding_boxes

    boxes = np.zeros((len(query), 4), dtype=np.int64)
    for image, rows in rows_by_image(query.image):
        if query.regions == PIXELS:
            y, x = np.divmod(query.unit[rows], pool.sizes[image, 1])
            boxes[rows] = np.stack([y, x, y + 1, x + 1], axis=1)
        else:
            maps = pool.maps[query.regions]
            found = bounding_boxes(maps[image], int(maps.num_regions[image]))
            boxes[rows] = found[query.unit[rows]]
    return boxes


def read_answers(path: Path, query: Query, pool: LabelPool, images: ImageSet) -> Answers:
    """Read an answers file; see `write_questions` for its form.

    Args:
        path: The file.
        query: What was asked.
        pool: Knows the region maps.
        images: The pool's images.

    Returns:
        Answers for the first rows of the query.

    Raises:
        UserError: Naming the file, the line and what is wrong with it.
    """
    lines = _read_lines(path, len(query))
    kind = KINDS[query.answer]
    names = kind.names(images)
    said: list[Any] = []
    seconds = np.full(len(lines), np.nan, dtype=np.float32)
    mistakes: list[str] = []
    for row, (number, text, took) in enumerate(lines):
        where = f"{path}, line {number}"
        written = Written(
            text,
            suggested=None,
            ids=lambda text=text: [_class_id(word, names) for word in text.split(";")],  # type: ignore[misc]
            mask=lambda t=text, r=row: _read_mask(path.parent / t, query, r, pool, images),  # type: ignore[misc]
        )
        try:
            if took:
                seconds[row] = _seconds(took)
            said.append(kind.written(written, len(names)))
        except ValueError as error:
            mistakes.append(f"{where}: {error}")
    _raise(mistakes)
    measured = seconds if np.isfinite(seconds).any() else None
    return Answers.of_rows(query.head(len(lines)), len(names), said, measured)


def _raise(mistakes: Sequence[str]) -> None:
    """Raise one error for all mistakes, the first 20 in full."""
    if not mistakes:
        return
    more = [f"and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
    texts = [text.rstrip(".") for text in mistakes[:_SHOWN]]
    raise UserError("; ".join([*texts, *more]) + ".")


def _read_lines(path: Path, questions: int) -> list[tuple[int, str, str]]:
    """Line number, answer and seconds per question, in the order of the questions.

    Takes what spreadsheets write: commas, semicolons or tabs between cells, a line ``sep=;``, a
    byte-order mark, UTF-16, capitals in the head, and empty last lines.

    Raises:
        UserError: Naming every line that cannot be used.
    """
    try:
        raw = path.read_bytes()
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = raw.decode("utf-16" if utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); save it as UTF-8 text.") from error
    first, _, rest = text.partition("\n")
    before = 0
    if first.strip().lower().startswith("sep="):
        text, before = rest, 1
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num + before, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num + before}: {error}; the file is no table of short "
            f"cells: look for a quotation mark that is not closed."
        ) from error
    columns = [name.lower() for name in rows[0][1]] if rows else []
    if not {"row", "answer"} <= set(columns):
        raise UserError(
            f"{path}, line {before + 1}: the first line must be 'row,answer' (and ',seconds'), "
            f"with commas, semicolons or tabs between the columns."
        )
    found: dict[int, tuple[int, str, str]] = {}
    mistakes: list[str] = []
    for number, cells in rows[1:]:
        if not any(cells):
            continue
        try:
            row, line = _line(cells, columns, delimiter, questions)
            if row in found:
                raise ValueError(f"row {row} is answered in line {found[row][0]} already")
            found[row] = (number, *line)
        except ValueError as error:
            mistakes.append(f"{path}, line {number}: {error}")
    gap = next((row for row in range(len(found)) if row not in found), None)
    if gap is not None and not mistakes:
        mistakes.append(
            f"{path} leaves out row {gap}; rows count from 0 on without a gap, answer it or delete "
            f"the lines after it"
        )
    _raise(mistakes)
    if not found:
        raise UserError(f"{path} holds no answers; it needs one line per question.")
    return [found[row] for row in range(len(found))]


def _line(
    cells: Sequence[str], columns: Sequence[str], delimiter: str, questions: int
) -> tuple[int, tuple[str, str]]:
    """Row, and answer and seconds, of a line."""
    if len(cells) > len(columns):
        raise ValueError(
            "there are more cells than columns; separate classes by semicolons, not commas, and "
            "put them between quotation marks where semicolons separate the columns"
            if delimiter != ";"
            else "there are more cells than columns; put classes between quotation marks, since "
            "semicolons separate the columns here"
        )
    said = dict(zip(columns, cells, strict=False))
    if not said["row"].isascii() or not said["row"].isdecimal():
        raise ValueError(f"row is {said['row']!r}, not a number of questions.csv")
    row = int(said["row"]) if len(said["row"]) < 12 else questions
    if row >= questions:
        raise ValueError(f"there are only {questions} questions; delete this line")
    if not said.get("answer"):
        raise ValueError(f"the answer is empty; write {VOID_WORD!r} for no class")
    return row, (said["answer"], said.get("seconds", ""))


def _class_id(word: str, names: Sequence[str]) -> int:
    """Id of a class name, C for void; any case, and beginnings that are clear."""
    word = word.strip()
    known = [*names, VOID_WORD]
    if word in known:
        return known.index(word)
    folded = [name.casefold() for name in known]
    same = [i for i, name in enumerate(folded) if name == word.casefold()]
    begun = [i for i, name in enumerate(folded) if word and name.startswith(word.casefold())]
    for found in (same, begun):
        if len(found) == 1:
            return found[0]
        if found:
            ways = " or ".join(repr(known[i]) for i in found)
            raise ValueError(f"{word!r} may mean {ways}")
    raise unknown_name("class", word, known)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds is {text!r}; write a number of at least 0")
    return seconds


def _read_mask(
    path: Path, query: Query, row: int, pool: LabelPool, images: ImageSet
) -> NDArray[np.uint8]:
    """Labels of one unit's pixels from a label image."""
    image = int(query.image[row])
    try:
        labels = read_answer_mask(path, images, image)
    except OSError as error:
        raise UserError(f"cannot read the mask {path} ({error}).") from error
    if query.regions == PIXELS:
        return labels.ravel()[query.unit[row] : query.unit[row] + 1]
    return np.asarray(labels[pool.maps[query.regions][image] == query.unit[row]])
