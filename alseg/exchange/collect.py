"""From what a tool's file says to answers, or to everything that is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID
from alseg.exchange.model import Painted, Question, Reading, Said, Sheet, Task
from alseg.label.session import Session
from alseg.labels.answerfile import VOID_WORD, NoNameError, id_of, is_unsure
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Kind, Written
from alseg.labels.kinds.correct import KEEP

#: Label of a pixel that nothing covers, and of one that a word covers which is no class.
OPEN, UNKNOWN = -1, -2


@dataclass(frozen=True)
class Answer:
    """The answer to a row.

    Attributes:
        text: As it stands in ``answers.csv``; empty of a dense mask.
        value: What it means, to compare: an id, the members of a set, or labels.
        where: Where it was found.
        seconds: How long it took, None where that is not known.
        labels: Of a dense mask the labels of the unit's loaded pixels in raster order, uint8.
    """

    text: str
    value: tuple[Any, ...]
    where: str
    seconds: float | None = None
    labels: NDArray[np.uint8] | None = None


def collect(
    reading: Reading, task: Task, session: Session, rest: str | None = None
) -> tuple[dict[int, Answer], list[str]]:
    """Answers by rows, and what is wrong, a clause each.

    Args:
        reading: What a file says.
        task: What was asked.
        session: The round.
        rest: Class, or "void", of the pixels of a dense mask that nobody painted; None to call
            them a mistake.

    Raises:
        UserError: If the rest is no class.
    """
    mistakes = list(reading.mistakes)
    found: dict[int, Answer] = {}
    if task.answer == "mask":
        answers = _masks(reading, task, session, rest, mistakes)
    else:
        answers = _words(reading.said, session, mistakes)
    for row, answer in answers:
        before = found.setdefault(row, answer)
        if before.value != answer.value:
            mistakes.append(
                f"row {row} is {before.text or 'painted one way'!r} in {before.where} and "
                f"{answer.text or 'painted another way'!r} in {answer.where}"
            )
    return dict(sorted(found.items())), mistakes


# ---------------------------------------------------------------------- words


def _words(said: Sequence[Said], session: Session, mistakes: list[str]) -> list[tuple[int, Answer]]:
    answers = []
    for one in said:
        try:
            text, value = meaning(one.words, one.row, session)
        except NoNameError as error:
            mistakes.append(f"{one.where}: {_unknown(str(error), session)}")
        except ValueError as error:
            mistakes.append(f"{one.where}: {error}")
        else:
            answers.append((one.row, Answer(text, value, one.where, one.seconds)))
    return answers


def _unknown(word: str, session: Session) -> str:
    return str(unknown_name("class", word, [*session.names, VOID_WORD])).rstrip(".")


def meaning(words: Sequence[str], row: int, session: Session) -> tuple[str, tuple[Any, ...]]:
    """How words are written in ``answers.csv``, and what they mean.

    Args:
        words: What was said; see `alseg.exchange.model.Said`.
        row: Of which row.
        session: The round.

    Raises:
        ValueError: If they are no answer of this kind; the text is a clause.
    """
    kind, names = KINDS[session.query.answer], session.names
    unsure = [word for word in words if kind.takes_unsure and is_unsure(word)]
    if unsure and not set(unsure) & set(names):
        if len(words) > len(unsure):
            raise ValueError(f"'unsure' stands alone, and not in {';'.join(words)!r}")
        return "unsure", ("unsure",)
    suggested = _suggested(session, row)
    keeps = kind.suggests and len(words) == 1 and words[0].casefold() == KEEP
    ids = [] if keeps else sorted({id_of(word, names) for word in words})
    text = KEEP if keeps else ";".join([*names, VOID_WORD][i] for i in ids)
    written = Written(text, suggested, lambda: ids, lambda: np.zeros(0, np.uint8))
    return text, _comparable(kind, written, len(names))


def _comparable(kind: Kind, written: Written, num_names: int) -> tuple[Any, ...]:
    return tuple(np.atleast_1d(kind.written(written, num_names)).tolist())


def _suggested(session: Session, row: int) -> int | None:
    suggested = session.query.suggested
    return None if suggested is None else min(int(suggested[row]), session.num_classes)


# ---------------------------------------------------------------------- dense masks


def _masks(
    reading: Reading, task: Task, session: Session, rest: str | None, mistakes: list[str]
) -> list[tuple[int, Answer]]:
    remaining = OPEN if rest is None else _label(rest, session, "rest")
    answers = []
    labels: dict[str, int] = {}
    for parts in reading.painted.values():
        for part in parts:
            if part.word in labels:
                continue
            try:
                labels[part.word] = _label(part.word, session, part.where)
            except UserError as error:
                labels[part.word] = UNKNOWN
                mistakes.append(str(error).rstrip("."))
    for name, parts in reading.painted.items():
        sheet = task.sheet_of[name]
        for question in sheet.questions:
            painted = _paint(question, parts, labels, reading.layered, mistakes)
            inside = _sample(session, question, sheet, painted)
            left = inside == OPEN
            if left.all():
                continue
            if left.any() and remaining == OPEN:
                mistakes.append(
                    f"row {question.row}: {left.sum()} of its {left.size} pixels have no class on "
                    f"{name}; paint them, or give rest=void, or rest=CLASS"
                )
                continue
            said = np.where(left, remaining, inside).astype(np.uint8)
            seconds = reading.seconds.get(name)
            if seconds is not None:  # those of all questions of the sheet together
                seconds /= len(sheet.questions)
            answers.append(
                (question.row, Answer("", (said.tobytes(),), name, seconds, labels=said))
            )
    return answers


def _label(word: str, session: Session, where: str) -> int:
    """Label of a word: a class id or VOID."""
    try:
        label = id_of(word, session.names)
    except NoNameError:
        raise UserError(f"{where}: {_unknown(word, session)}.") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from None
    return VOID if label == session.num_classes else label


def _paint(
    question: Question,
    parts: Sequence[Painted],
    labels: dict[str, int],
    layered: bool,
    mistakes: list[str],
) -> NDArray[np.int16]:
    """Labels of the box of a question, `OPEN` where nothing is painted."""
    box = question.box
    target = np.full(question.mask.shape, OPEN, dtype=np.int16)
    for part in parts:
        height, width = part.mask.shape
        top, left = max(box.top, part.top), max(box.left, part.left)
        bottom = min(box.bottom, part.top + height)
        right = min(box.right, part.left + width)
        if top >= bottom or left >= right:
            continue
        here = np.s_[top - box.top : bottom - box.top, left - box.left : right - box.left]
        mask = part.mask[top - part.top : bottom - part.top, left - part.left : right - part.left]
        mask = mask & question.mask[here]
        label, before = labels[part.word], target[here]
        twice = mask & (before != OPEN) & (before != label)
        if not layered and twice.any():
            other = next(w for w, own in labels.items() if own == before[twice][0])
            mistakes.append(
                f"row {question.row}: {twice.sum()} pixels are {other!r} and {part.word!r} "
                f"({part.where}); a pixel has one class"
            )
        target[here] = np.where(mask, label, before)
    return target


def _sample(
    session: Session, question: Question, sheet: Sheet, labels: NDArray[np.int16]
) -> NDArray[np.int16]:
    """Labels of a unit's loaded pixels, in raster order, out of those of its box on a sheet."""
    top, left, bottom, right = session.boxes[question.row].tolist()
    box, place = question.box, sheet.place
    y = np.clip(place.sampled(0, top, bottom) - box.top, 0, box.height - 1)
    x = np.clip(place.sampled(1, left, right) - box.left, 0, box.width - 1)
    return np.asarray(labels[np.ix_(y, x)][session.mask(question.row)])
