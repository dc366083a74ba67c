"""Questions to a person and their answers, as files anyone can open."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import read_json, write_atomic
from alseg.core.images import VOID, ImageSet, origin_of
from alseg.labels.answer_masks import describe_values, read_answer_mask
from alseg.labels.answerfile import (
    VOID_WORD,
    Mistake,
    differences,
    id_of,
    in_order,
    is_unsure,
    parse_lines,
    raise_mistakes,
    read_bytes,
    seconds_of,
)
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Kind, Written
from alseg.labels.owned import numbered
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Answers, Query

ANSWERS = "answers.csv"
#: What `ANSWERS` held when it was read.
READ = "answers_read.csv"
#: What `ANSWERS` held when a difference was looked at and left.
SEEN = "answers_seen.csv"
#: What the answers are chosen from, for a check of `ANSWERS` without the images.
NAMES = "names.json"
_ANY = 10**11  # more questions than any round has


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
    kind = KINDS[query.answer]
    names = [*kind.names(images), VOID_WORD]
    boxes, resized = file_boxes(query, pool, images)
    columns: dict[str, list[Any]] = {
        "row": list(range(len(query))),
        "image": [images.names[image] for image in query.image.tolist()],
        "unit": query.unit.tolist(),
        **dict(zip(("top", "left", "bottom", "right"), boxes.T.tolist(), strict=True)),
    }
    if query.suggested is not None:
        said = np.minimum(query.suggested.astype(np.int64), len(names) - 1).tolist()
        columns["suggested"] = [names[label] for label in said]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    write_atomic(folder / "questions.csv", buffer.getvalue())
    write_atomic(folder / NAMES, json.dumps(names[:-1], ensure_ascii=False) + "\n")
    how = _how_to_answer(query, kind, names, pool, images, resized)
    write_atomic(folder / "HOW_TO_ANSWER.txt", how)


def _how_to_answer(
    query: Query,
    kind: Kind,
    names: Sequence[str],
    pool: LabelPool,
    images: ImageSet,
    resized: bool,
) -> str:
    budget = pool.budget
    until = ", all of them"
    if budget.amount < float("inf"):
        until = f", until {budget.amount:g} {budget.axis} are spent or you have no more"
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names[:-1]))
    listed += f", {VOID} {VOID_WORD}"
    if kind.column == "masks":  # what the masks of this data set hold, ids or colours
        listed = describe_values(images)
    forms = ""
    if kind.column != "masks":
        forms = (
            "Names may be shortened, as long as they are clear, written in small letters or "
            "capitals, or given by their numbers. "
        )
    unsure = ""
    if kind.takes_unsure:
        unsure = (
            "'unsure', or ?, is for what you cannot tell: it is paid as an answer is, and nothing "
            "is learnt from it.\n"
        )
    loaded = " The run itself loads the images at another size." if resized else ""
    return (
        f"Answer the questions of questions.csv{until}.\n"
        f"The folder questions has a picture of each; its name begins with the row.\n"
        f"Write {ANSWERS} beside this file, with a first line\n\n    row,answer\n\n"
        f"and one line per question: its row number, and {kind.question.format(unit=query.kind)}. "
        f"For example:\n\n    0,{kind.example.format(*names)}\n\n"
        f"Lines may stand in any order; the rows from 0 on without a gap count. {forms}Columns may "
        f"be separated by commas, semicolons or tabs; a third one named seconds may hold the time "
        f"each answer took.\n"
        f"Boxes are in pixels of the image files: top and left inclusive, bottom and right "
        f"exclusive.{loaded}\n\n"
        f"{'Classes' if kind.covers_pixels else 'Scenes'}: {listed}.\n"
        f"'{VOID_WORD}' is for what belongs to none of them.\n{unsure}"
    )


def unit_boxes(query: Query, pool: LabelPool) -> NDArray[np.int64]:
    """Bounding box of every unit: top, left, bottom, right (exclusive), (n, 4), int64.

    In pixels of the images as they are loaded; see `file_boxes`.
    """
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


def file_boxes(query: Query, pool: LabelPool, images: ImageSet) -> tuple[NDArray[np.int64], bool]:
    """`unit_boxes` in pixels of the image files, rounded outwards, and whether they differ in size.

    Args:
        query: The n units.
        pool: Knows the region maps.
        images: The pool's images.
    """
    boxes = unit_boxes(query, pool)
    resized = False
    for image, rows in rows_by_image(query.image):
        origin = origin_of(images, image)
        if origin is None:
            continue
        corner = np.array(origin.box[:2])
        scale = (np.array(origin.box[2:]) - corner) / pool.sizes[image]
        resized |= bool((scale != 1).any())
        ends = boxes[rows].reshape(-1, 2, 2) * scale + corner
        # what is whole but for the last digits stays whole
        boxes[rows, :2] = np.floor(ends[:, 0] + 1e-6)
        boxes[rows, 2:] = np.ceil(ends[:, 1] - 1e-6)
    return boxes, resized


def read_answers(
    path: Path, query: Query, pool: LabelPool, images: ImageSet, raw: bytes | None = None
) -> Answers:
    """Read an answers file; see `write_questions` for its form.

    Args:
        path: The file.
        query: What was asked.
        pool: Knows the region maps.
        images: The pool's images.
        raw: What the file holds, if it was read before.

    Returns:
        Answers for the first rows of the query.

    Raises:
        UserError: Naming the file, every line that cannot be used, and what is wrong with it.
    """
    names = KINDS[query.answer].names(images)

    def mask(text: str, row: int) -> NDArray[np.uint8]:
        return _read_mask(path.parent / text, query, row, pool, images)

    raw = read_bytes(path) if raw is None else raw
    rows = _read_rows(path, raw, query, names, mask)
    measured = rows.seconds if np.isfinite(rows.seconds).any() else None
    head = query.head(len(rows.said))
    return Answers.of_rows(head, len(names), rows.said, measured, rows.unsure)


class _Rows(NamedTuple):
    """The answers of a file, in the order of the questions."""

    said: list[Any]
    seconds: NDArray[np.float32]
    unsure: NDArray[np.bool_]


def _read_rows(
    path: Path,
    raw: bytes,
    query: Query,
    names: Sequence[str],
    mask: Callable[[str, int], NDArray[np.uint8]],
) -> _Rows:
    """What the lines of a file say; all mistakes are told in one error."""
    kind, n, known = KINDS[query.answer], len(query), tuple(names)
    lines = parse_lines(path, raw, n)
    said: dict[int, Any] = {}
    seconds = np.full(n, np.nan, dtype=np.float32)
    unsure = np.zeros(n, dtype=bool)
    mistakes = list(lines.mistakes)
    for row, line in lines.of.items():
        written = Written(
            line.answer,
            suggested=_suggested(query, row, len(names)),
            ids=lambda text=line.answer: [id_of(word, known) for word in text.split(";")],  # type: ignore[misc]
            mask=lambda text=line.answer, row=row: mask(text, row),  # type: ignore[misc]
        )
        # a class may be called like it
        unsure[row] = kind.takes_unsure and line.answer not in names and is_unsure(line.answer)
        try:
            said[row] = kind.void(len(names)) if unsure[row] else kind.written(written, len(names))
        except ValueError as error:
            mistakes.append(Mistake(line.number, error))
        try:
            seconds[row] = seconds_of(line.seconds) if line.seconds else np.nan
        except ValueError as error:
            mistakes.append(Mistake(line.number, error))
    raise_mistakes(path, mistakes, names)
    in_order(path, lines)
    count = len(lines.of)
    return _Rows([said[row] for row in range(count)], seconds[:count], unsure[:count])


def _suggested(query: Query, row: int, num_names: int) -> int | None:
    return None if query.suggested is None else min(int(query.suggested[row]), num_names)


def _read_lines(path: Path, questions: int) -> list[tuple[int, str, str]]:
    """Line number, answer and seconds per question, in the order of the questions.

    Raises:
        UserError: Naming every line that cannot be used.
    """
    lines = parse_lines(path, read_bytes(path), questions)
    raise_mistakes(path, lines.mistakes)
    return [tuple[int, str, str](line) for line in in_order(path, lines)]


def check_waiting(run_dir: Path) -> None:
    """Look for mistakes in the answers that a run waits for, without its images.

    Does nothing where a run does not wait, or waits for other answers than an answers file. Masks
    are not opened.

    Raises:
        UserError: As `read_answers`.
    """
    for folder in sorted(Path(run_dir).glob("round_*"))[-1:]:
        path, names = folder / ANSWERS, folder / NAMES
        parts = (path, names, folder / "query.npz")
        if all(part.exists() for part in parts) and not (folder / "answers.npz").exists():
            try:
                known: list[str] = json.loads(names.read_text("utf-8"))
            except (OSError, ValueError):
                return  # the run writes it anew
            query = numbered(folder, Query.load(folder / "query.npz"))
            _read_rows(path, read_bytes(path), query, known, _unread)


def waiting_answers(folder: Path) -> Answers | None:
    """Answers in the file of a round that the run has not taken yet; None where there are none.

    Args:
        folder: Folder of the round.

    Raises:
        UserError: For mistakes in the file, or masks, which cannot be read without the images.
    """
    path, names, asked = folder / ANSWERS, folder / NAMES, folder / "query.npz"
    if not (path.exists() and asked.exists()):
        return None
    query = numbered(folder, Query.load(asked))
    mend = "give the command of that run with oracle.accept_partial=true"
    if not names.exists() or KINDS[query.answer].column == "masks":
        raise UserError(f"{path} holds answers that its run has not taken yet; {mend} first.")
    known: list[str] = read_json(names, list, mend=f"{mend} first")
    rows = _read_rows(path, read_bytes(path), query, known, _unread)
    measured = rows.seconds if np.isfinite(rows.seconds).any() else None
    head = query.head(len(rows.said))
    return Answers.of_rows(head, len(known), rows.said, measured, rows.unsure)


def _unread(text: str, row: int) -> NDArray[np.uint8]:
    """Stands for a mask that is not opened."""
    return np.zeros(0, dtype=np.uint8)


def keep_read(folder: Path, raw: bytes) -> None:
    """Keep what an answers file held when it was read, see `told_changes`."""
    _keep(folder, READ, raw)


def keep_seen(folder: Path) -> None:
    """Remember the answers file as it is now: its differences are told no more."""
    _keep(folder, SEEN, read_bytes(folder / ANSWERS))


def _keep(folder: Path, name: str, raw: bytes) -> None:
    """Keep an answers file, with digests of the masks it names first."""
    digests = _digests(folder, raw)
    if digests:
        text = json.dumps(digests, ensure_ascii=False) + "\n"
        write_atomic((folder / name).with_suffix(".json"), text)
    write_atomic(folder / name, raw)


def masks_named(folder: Path) -> list[str]:
    """The mask files that the answers file of a round names, as they are written there."""
    query, path = folder / "query.npz", folder / ANSWERS
    if not (query.exists() and path.exists()):
        return []
    return list(_digests(folder, read_bytes(path)))


def _digests(folder: Path, raw: bytes) -> dict[str, str]:
    """Digest of every mask file that an answers file names; empty where labels are asked."""
    query = folder / "query.npz"
    if not query.exists() or KINDS[Query.load(query).answer].column != "masks":
        return {}
    found = {}
    for line in parse_lines(folder / ANSWERS, raw, _ANY).of.values():
        try:
            content = (folder / line.answer).read_bytes()
            found[line.answer] = blake2b(content, digest_size=16).hexdigest()
        except (OSError, ValueError):
            found[line.answer] = "gone"
    return found


def told_changes(folder: Path) -> str | None:
    """What differs between the answers file of a round and what was read, or last seen, of it.

    Args:
        folder: Folder of a round that was answered.

    Returns:
        A sentence; None if nothing does, or if one of the files is not there.
    """
    path = folder / ANSWERS
    if not (path.exists() and (folder / READ).exists()):
        return None
    known = folder / (SEEN if (folder / SEEN).exists() else READ)
    try:
        old = parse_lines(path, read_bytes(known), _ANY)
        raw = read_bytes(path)
        told = differences(old, parse_lines(path, raw, _ANY))
        told += _changed_masks(folder, known.with_suffix(".json"), raw)
    except UserError as error:
        told = [str(error).rstrip(".")]
    if not told:
        return None
    return (
        f"{path} has changed since its answers were taken: {'; '.join(told)}. The run goes on with "
        f"what it read then, which is in {READ}; answers=recompute goes back to this round with "
        f"the answers as they are now, answers=keep leaves them and tells this no more."
    )


def _changed_masks(folder: Path, known: Path, raw: bytes) -> list[str]:
    """Mask files that hold something else than when they were read, a clause each."""
    if not known.exists():
        return []  # none are asked, or an older release read them
    before, now = read_json(known, mend="restore it from a copy"), _digests(folder, raw)
    return [
        f"the mask {name} {'is gone' if now[name] == 'gone' else 'has changed'}"
        for name in before
        if name in now and before[name] != now[name]
    ]


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
