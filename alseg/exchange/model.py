"""What crosses the door between a run and a tool: questions on sheets, and what was said."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from alseg.exchange.place import Place
from alseg.exchange.sources import Source
from alseg.labels.answerfile import UNSURE_WORDS, VOID_WORD
from alseg.labels.kinds import KINDS

#: The label of a unit that waits for its class, where a tool wants one.
QUESTION = "question"
#: The value of a choice that nobody has made yet.
UNANSWERED = "unanswered"
UNSURE = UNSURE_WORDS[0]

Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """A rectangle of whole pixels of a sheet; bottom and right are outside."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.right - self.left


@dataclass(frozen=True)
class Question:
    """One row of the query as a tool sees it.

    Attributes:
        row: Its number, the key by which answers come back.
        box: Bounding box of the unit on its sheet.
        mask: Pixels of the box that belong to the unit, (h, w), bool, at least one.
        point: Centre of the box, y and x in pixels of the sheet; of a pixel its own centre.
        words: What the model suggests, names of classes; empty without a suggestion.
        labels: What the model suggests for each pixel of the box, (h, w), uint8, VOID outside the
            unit; only of dense masks.
    """

    row: int
    box: Box
    mask: Mask
    point: tuple[float, float]
    words: tuple[str, ...] = ()
    labels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Sheet:
    """A picture that a tool shows, with the questions on it.

    Attributes:
        name: Name of its file without the ending, unlike that of any sheet of other questions.
        image: Index of the image it shows.
        place: Where the loaded pixels of the image lie on it.
        corner: Pixel of the image's file at its top left; None if it is drawn at another size.
        questions: Those that are asked on it.
        picture: Makes the picture: the content of a PNG file.
    """

    name: str
    image: int
    place: Place
    corner: tuple[int, int] | None
    questions: tuple[Question, ...]
    picture: Callable[[], bytes] = field(repr=False)

    @property
    def height(self) -> int:
        """Of the picture."""
        return self.place.size[0]

    @property
    def width(self) -> int:
        """Of the picture."""
        return self.place.size[1]

    @property
    def file(self) -> str:
        """Name of the picture's file."""
        return f"{self.name}.png"


@dataclass(frozen=True)
class Task:
    """What is asked, in the terms of tools.

    Attributes:
        answer: Kind of answer, a name of `alseg.labels.kinds.KINDS`.
        unit: What a unit is: pixel, region, patch or image.
        names: Names of the classes, or of the scenes.
        colors: Their colours, (C, 3), uint8.
        sheets: The pictures.
        files: File of each image, by its index, for formats that place pixels on earth.
    """

    answer: str
    unit: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    sheets: tuple[Sheet, ...]
    files: dict[int, str] = field(default_factory=dict)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All that may be said: the names, void and, of most kinds, unsure."""
        unsure = (UNSURE,) if KINDS[self.answer].takes_unsure else ()
        return (*self.names, VOID_WORD, *unsure)

    @cached_property
    def sheet_of(self) -> dict[str, Sheet]:
        """The sheets by their names."""
        return {sheet.name: sheet for sheet in self.sheets}

    @cached_property
    def rows(self) -> frozenset[int]:
        """Numbers of the rows that are asked."""
        return frozenset(question.row for sheet in self.sheets for question in sheet.questions)

    @property
    def prompt(self) -> str:
        """What a person is to say."""
        texts = {"mask": f"the class of every pixel of the {self.unit}"}
        return texts.get(self.answer, KINDS[self.answer].question.format(unit=self.unit))


@dataclass(frozen=True)
class Said:
    """What a file says of a row.

    Attributes:
        row: Its number.
        words: Names, "void", "unsure", or "yes" for a suggestion that is kept.
        where: Where it stands, for a sentence.
        seconds: How long it took, None where the file does not know.
    """

    row: int
    words: tuple[str, ...]
    where: str
    seconds: float | None = None


@dataclass(frozen=True)
class Painted:
    """Pixels of a sheet that a file says are of one class.

    Attributes:
        word: Name of the class, or "void".
        top: Row of the mask's first pixel.
        left: Column of the mask's first pixel.
        mask: (h, w), bool.
        where: Where it stands, for a sentence.
    """

    word: str
    top: int
    left: int
    mask: Mask
    where: str


@dataclass
class Reading:
    """What a tool's file says.

    Attributes:
        said: Answers of one or several words.
        painted: Of dense masks the parts of each sheet, by its name, in the order of painting.
        layered: Whether a later part hides an earlier one; else a pixel has one class.
        mistakes: What is wrong, a clause each.
        seconds: Seconds of dense masks by sheet, where the file knows them.
    """

    said: list[Said] = field(default_factory=list)
    painted: dict[str, list[Painted]] = field(default_factory=dict)
    layered: bool = False
    mistakes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def sheet(self, task: Task, file: object, size: tuple[object, object] | None) -> Sheet | None:
        """The sheet that a file names; without one, a mistake.

        Args:
            task: What was asked.
            file: The name, with or without folders and an ending.
            size: Height and width the file says the picture has, if it does.
        """
        name = str(file).replace("\\", "/").rpartition("/")[2]
        found = task.sheet_of.get(name) or task.sheet_of.get(name.rpartition(".")[0])
        if found is None:
            self.mistakes.append(f"picture {name!r} is not one of this round's questions")
        elif size is not None and size != (found.height, found.width):
            self.mistakes.append(
                f"picture {name!r} is {size[0]} x {size[1]} (height x width) there, and was "
                f"exported as {found.height} x {found.width}"
            )
            return None
        return found

    def row(self, value: object, task: Task, where: str) -> int | None:
        """The row that a value names; what is none is a mistake."""
        text = str(value).strip()
        if isinstance(value, float) and value.is_integer():
            text = str(int(value))
        if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) in task.rows:
            return int(text)
        self.mistakes.append(f"{where}: row is {text!r}, which is no question of this round")
        return None

    def paint(self, sheet: Sheet, word: str, top: int, left: int, mask: Mask, where: str) -> None:
        """Add a part of a dense mask, cut down to the box that holds its pixels."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
        top, left = top + int(rows[0]), left + int(columns[0])
        self.painted.setdefault(sheet.name, []).append(Painted(word, top, left, mask, where))


class Format(Protocol):
    """A format as a module: functions of what they are given, and what they cannot hold."""

    name: str
    #: What to do with the files, a sentence each.
    steps: str
    #: Kinds of answers it cannot hold, with what it lacks.
    refused: dict[str, str]
    #: Whether it has a place for what a model suggests.
    predictions: bool

    def write(self, task: Task) -> Iterator[tuple[str, bytes]]:
        """The files of an export: relative paths and contents."""
        ...

    def read(self, source: Source, task: Task) -> Reading:
        """What the files of a tool say.

        Raises:
            UserError: If they are not of this format.
        """
        ...

    def reserved(self, task: Task) -> tuple[str, ...]:
        """Words that a class may not be called, because they mean something else in the file."""
        ...
