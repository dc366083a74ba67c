"""Questions to a person and their answers, as files anyone can open."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.files import write_atomic
from alseg.core.images import VOID, ImageSet
from alseg.labels.answer_masks import describe_values, read_answer_mask
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Answers, Query

VOID_WORD = "void"


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


_ASKED = {
    "class": "the class of the {unit}",
    "dominant": "the class that covers most of the {unit}",
    "class_set": "every class you see in the {unit}, separated by semicolons",
    "scene": "the scene that the {unit} shows",
    "mask": "the path of a label image (PNG or TIFF, of the size of the image; only the {unit} is "
    "read), relative to this folder",
}
_EXAMPLE = {
    "class": "{0}",
    "dominant": "{0}",
    "scene": "{0}",
    "class_set": "{0};{1}",
    "mask": "masks/0.png",
}


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
    names = [*_names(query, images), VOID_WORD]
    example = _EXAMPLE[query.answer].format(*names)
    budget = pool.budget
    until = f", until {budget.amount:g} {budget.axis} are spent or you have no more"
    text = (
        f"Answer the questions of questions.csv from the top"
        f"{until if budget.amount < float('inf') else ', all of them'}.\n"
        f"Write answers.csv beside this file, with a first line\n\n    row,answer\n\n"
        f"and one line per question, in the order of questions.csv: the row number, and "
        f"{_ASKED[query.answer].format(unit=query.kind)}. For example:\n\n    0,{example}\n\n"
        f"A third column named seconds may hold the time each answer took.\n"
        f"Boxes are in pixels: top and left inclusive, bottom and right exclusive.\n\n"
        f"{'Scenes' if query.answer == 'scene' else 'Classes'}: {', '.join(names)}.\n"
        f"'{VOID_WORD}' is for what belongs to none of them.\n"
    )
    if query.answer == "mask":
        text += f"Label images hold {describe_values(images)}.\n"
    write_atomic(folder / "HOW_TO_ANSWER.txt", text)


def _names(query: Query, images: ImageSet) -> Sequence[str]:
    """What the answers to a query are chosen from."""
    return images.scenes if query.answer == "scene" else images.classes.names


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
    names = _names(query, images)
    num_classes = len(names)
    n = len(lines)
    label = np.full(n, VOID, dtype=np.uint8)
    members = np.zeros((n, num_classes + 1), dtype=bool)
    masks: list[NDArray[np.uint8]] = []
    seconds = np.full(n, np.nan, dtype=np.float32)
    for row, (number, answer, took) in enumerate(lines):
        where = f"{path}, line {number}"
        if took:
            seconds[row] = _seconds(took, where)
        if query.answer == "mask":
            masks.append(_read_mask(path.parent / answer, where, query, row, pool, images))
            continue
        said = [_class_id(word, names, where) for word in answer.split(";")]
        if query.answer == "class_set":
            members[row, said] = True
        elif len(said) != 1:
            raise UserError(f"{where}: {answer!r} names {len(said)} classes; name one.")
        else:
            label[row] = VOID if said[0] == num_classes else said[0]
    measured = seconds if np.isfinite(seconds).any() else None
    return Answers.of(query.head(n), num_classes, label, members, masks, measured)


def _read_lines(path: Path, questions: int) -> list[tuple[int, str, str]]:
    """Line number, answer and seconds per question, checked for form and order."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte-order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); save it as UTF-8 text.") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if reader.fieldnames is None or not {"row", "answer"} <= set(reader.fieldnames):
        raise UserError(f"{path}, line 1: the first line must be 'row,answer' (and ',seconds').")
    lines: list[tuple[int, str, str]] = []
    for record in reader:
        where = f"{path}, line {reader.line_num}"
        if None in record:
            raise UserError(
                f"{where}: there are more cells than columns; separate classes by semicolons, not "
                f"commas."
            )
        if record["row"] != str(len(lines)):
            raise UserError(
                f"{where}: row is {record['row']!r}, expected {len(lines)}; answer the questions "
                f"in order, leave none out and repeat none."
            )
        if len(lines) >= questions:
            raise UserError(f"{where}: there are only {questions} questions; delete this line.")
        answer = (record["answer"] or "").strip()
        if not answer:
            raise UserError(f"{where}: the answer is empty; write {VOID_WORD!r} for no class.")
        lines.append((reader.line_num, answer, (record.get("seconds") or "").strip()))
    if not lines:
        raise UserError(f"{path} holds no answers; it needs one line per question.")
    return lines


def _class_id(word: str, names: Sequence[str], where: str) -> int:
    """Id of a class name, C for void."""
    word = word.strip()
    if word == VOID_WORD:
        return len(names)
    if word in names:
        return names.index(word)
    raise UserError(f"{where}: {unknown_name('class', word, [*names, VOID_WORD])}")


def _seconds(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{where}: seconds is {text!r}; write a number of at least 0.")
    return seconds


def _read_mask(
    path: Path, where: str, query: Query, row: int, pool: LabelPool, images: ImageSet
) -> NDArray[np.uint8]:
    """Labels of one unit's pixels from a label image."""
    image = int(query.image[row])
    try:
        labels = read_answer_mask(path, images, image)
    except (UserError, OSError) as error:
        raise UserError(f"{where}: {error}") from error
    if query.regions == PIXELS:
        return labels.ravel()[query.unit[row] : query.unit[row] + 1]
    return np.asarray(labels[pool.maps[query.regions][image] == query.unit[row]])
