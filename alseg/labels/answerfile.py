"""``answers.csv``: its lines as people and spreadsheets write them, and the names in them."""

import csv
import io
import stat
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID

VOID_WORD = "void"
#: What a person writes of what they cannot tell.
UNSURE_WORDS = ("unsure", "?")
#: Bytes of an answers file at most; a million lines take about 20 MB.
MOST_BYTES = 1 << 28
_SHOWN = 20
_DIFFERENCES = 5
#: Mistakes after which a file is read no further.
_MOST_MISTAKES = 1000


class Line(NamedTuple):
    """One line of an answers file."""

    number: int  #: Of the line, from 1 on.
    answer: str
    seconds: str  #: Empty where there are none.


class Mistake(NamedTuple):
    """What is wrong with a line of a file."""

    number: int
    error: ValueError  #: Its text is a clause.


class NoNameError(ValueError):
    """A word that is no name; its text is the word alone."""


class Lines(NamedTuple):
    """The lines of an answers file by row, and what is wrong with the others."""

    of: dict[int, Line]
    mistakes: list[Mistake]


def raise_mistakes(path: Path, mistakes: Iterable[Mistake], names: Sequence[str] = ()) -> None:
    """Raise one error for all mistakes, in the order of the lines, the first 20 in full.

    Args:
        path: The file.
        mistakes: Any number.
        names: What words may have meant.
    """
    found = sorted(mistakes, key=lambda mistake: mistake.number)
    if not found:
        return
    texts, known = [], ""
    for number, error in found[:_SHOWN]:
        text = str(error)
        if isinstance(error, NoNameError):  # the names are listed once
            text, _, known = str(unknown_name("class", text, [*names, VOID_WORD])).partition(
                " Known: "
            )
        texts.append(f"line {number}: {text.rstrip('.; ')}")
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    known = f" Known: {known}" if known else ""
    told = "; ".join([*texts, *more])
    raise UserError(f"{path}, {told}{'' if told.endswith('?') else '.'}{known}")


def read_bytes(path: Path) -> bytes:
    """Read an answers file.

    Raises:
        UserError: If it is none that can be read, or too large for one.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{path} is not a file; save your answers as text under this name.")
        if about.st_size > MOST_BYTES:
            raise UserError(
                f"{path} has {about.st_size >> 20} MiB, too much for a table of answers; save it "
                f"as text, with one line per question."
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error}).") from error


def parse_lines(path: Path, raw: bytes, questions: int) -> Lines:
    """Take an answers file apart.

    Takes what spreadsheets write: commas, semicolons or tabs between cells, a line ``sep=;``, a
    byte-order mark, UTF-16, any ends of lines, capitals in the head, more columns, empty cells at
    the ends of lines and empty last lines.

    Args:
        path: The file, for errors.
        raw: What it holds.
        questions: Number of questions; rows from there on are mistakes.

    Raises:
        UserError: If it is no table with a column ``row`` and a column ``answer``.
    """
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = raw.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path} ({error}); save it as UTF-8 text.") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
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
    while columns and not columns[-1]:
        columns.pop()
    if columns.count("row") != 1 or columns.count("answer") != 1:
        raise UserError(
            f"{path}, line {before + 1}: the first line must be 'row,answer' (and ',seconds'), "
            f"with commas, semicolons or tabs between the columns."
        )
    lines = Lines({}, [])
    for number, cells in rows[1:]:
        if not any(cells):
            continue
        try:
            row, answer, seconds = _cells(cells, columns, delimiter, questions)
            if row in lines.of:
                raise ValueError(f"row {row} is answered in line {lines.of[row].number} already")
            lines.of[row] = Line(number, answer, seconds)
        except ValueError as error:
            lines.mistakes.append(Mistake(number, error))
            if len(lines.mistakes) == _MOST_MISTAKES:
                lines.mistakes.append(Mistake(number + 1, ValueError("and so on")))
                break
    return lines


def _cells(
    cells: list[str], columns: Sequence[str], delimiter: str, questions: int
) -> tuple[int, str, str]:
    """Row, answer and seconds of a line."""
    while len(cells) > len(columns) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) > len(columns) and delimiter == ";" and columns[-1] == "answer":
        last = len(columns) - 1  # classes of a set, with the separator of the columns between them
        cells = [*cells[:last], ";".join(cells[last:])]
    if len(cells) > len(columns):
        raise ValueError(
            "there are more cells than columns; "
            + (
                "put classes between quotation marks, since semicolons separate the columns here"
                if delimiter == ";"
                else "separate classes by semicolons, not commas"
            )
        )
    said = dict(zip(columns, cells, strict=False))
    if not said["row"].isascii() or not said["row"].isdecimal():
        raise ValueError(f"row is {said['row']!r}, not a number of questions.csv")
    row = int(said["row"]) if len(said["row"]) < 12 else questions
    if row >= questions:
        raise ValueError(f"there are only {questions} questions; delete this line")
    if not said.get("answer"):
        raise ValueError(f"the answer is empty; write {VOID_WORD!r} for no class")
    return row, said["answer"], said.get("seconds", "")


def in_order(path: Path, lines: Lines) -> list[Line]:
    """The lines of the rows 0, 1, 2, ...

    Raises:
        UserError: If there are none, or if a row is left out.
    """
    if not lines.of:
        raise UserError(f"{path} holds no answers; it needs one line per question.")
    gap = next((row for row in range(len(lines.of)) if row not in lines.of), None)
    if gap is not None:
        raise UserError(
            f"{path} leaves out row {gap}; rows count from 0 on without a gap, answer it or delete "
            f"the lines after it."
        )
    return [lines.of[row] for row in range(len(lines.of))]


def is_unsure(text: str) -> bool:
    """Whether an answer says that it cannot be told."""
    return text.casefold() in UNSURE_WORDS


@lru_cache(1 << 12)
def id_of(word: str, names: tuple[str, ...]) -> int:
    """Id of a name: C for void.

    Names are taken in any case, by their number, and by a beginning that is that of one name alone.

    Args:
        word: What was written.
        names: The C names.

    Raises:
        ValueError: If it is no name, or may be several.

    >>> [id_of(word, ("road", "roof", "tree")) for word in ("road", "ROOF", "t", "2", "255")]
    [0, 1, 2, 2, 3]
    """
    word = word.strip()
    known = [*names, VOID_WORD]
    if word in known:
        return known.index(word)
    folded = [name.casefold() for name in known]
    same = [i for i, name in enumerate(folded) if name == word.casefold()]
    likely = [i for i, name in enumerate(folded) if word and name.startswith(word.casefold())]
    if word.isascii() and word.isdecimal() and len(word) <= 3:
        number = int(word)
        if number < len(names) or number == VOID:
            likely.append(min(number, len(names)))
    for found in (same, sorted(set(likely))):
        if len(found) == 1:
            return found[0]
        if found:
            ways = " or ".join(repr(known[i]) for i in found)
            raise ValueError(f"{word!r} may mean {ways}")
    if is_unsure(word):
        raise ValueError(f"{word!r} stands alone, for an answer that cannot be told")
    raise NoNameError(word)


def seconds_of(text: str) -> float:
    """Seconds an answer took.

    Raises:
        ValueError: If they are no number of at least 0.
    """
    try:
        seconds = float(text.replace(",", "."))  # the decimal sign of half the spreadsheets
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds is {text!r}; write a number of at least 0")
    return seconds


def differences(old: Lines, new: Lines) -> list[str]:
    """What stands in an answers file and did not before, by row, the first 5 in full.

    >>> line = lambda text: Line(2, text, "")
    >>> differences(Lines({0: line("a"), 1: line("b")}, []), Lines({0: line("c")}, []))
    ["row 0 was 'a' and is 'c'", "row 1 was 'b' and is left out"]
    """
    told = []
    for row in sorted({*old.of, *new.of}):
        before, now = (lines.of.get(row) for lines in (old, new))
        if before and now and before.answer != now.answer:
            told.append(f"row {row} was {before.answer!r} and is {now.answer!r}")
        elif before and now and before.seconds != now.seconds:
            told.append(f"the seconds of row {row} were {before.seconds!r} and are {now.seconds!r}")
        elif before and not now:
            told.append(f"row {row} was {before.answer!r} and is left out")
        elif now and not before:
            told.append(f"row {row} was left out and is {now.answer!r}")
    more = [f"and {len(told) - _DIFFERENCES} more"] if len(told) > _DIFFERENCES else []
    return [*told[:_DIFFERENCES], *more]
