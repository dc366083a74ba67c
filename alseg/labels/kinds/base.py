"""What a kind of answer is: its column, its price, its question, how it is read and painted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.regions.runs import Runs

#: Columns of `alseg.labels.tables.Answers`, one of which holds what was said.
Column = Literal["label", "sets", "masks"]


@dataclass(frozen=True)
class Units:
    """The units of one image that are asked about.

    Attributes:
        image: Image index.
        unit: Unit ids, (n,): region ids, or ``y * W + x`` of pixels.
        runs: The map the regions belong to; None = pixels.
        num_regions: Ids are below this.
    """

    image: int
    unit: NDArray[np.int64]
    runs: Runs | None
    num_regions: int

    @cached_property
    def regions(self) -> NDArray[np.int32] | None:
        """Region id of each pixel, (H, W); None = pixels."""
        return None if self.runs is None else self.runs.dense()


@dataclass(frozen=True)
class Annotator:
    """How a simulated annotator looks, see `alseg.labels.oracle.SimulatedOracle`.

    Attributes:
        trim: Width by which borders between regions are widened and left out.
        vote_void: Whether void takes part in the vote for a region's dominant class.
    """

    trim: int
    vote_void: bool


class Said(NamedTuple):
    """What was said about n units.

    Attributes:
        column: The column of the kind, n rows, see `alseg.labels.tables.Answers`.
        unsure: Units whose answer is that it cannot be told, (n,), bool; in the column they are
            void.
        suggested: Label that was suggested for each unit, (n,), uint8; None where none was.
    """

    column: Any
    unsure: NDArray[np.bool_]
    suggested: NDArray[np.uint8] | None = None


class Written(NamedTuple):
    """One answer as a person wrote it.

    Attributes:
        text: What stands in the cell, not empty.
        suggested: Id of the name that was suggested, void as `ids` has it; None without.
        ids: Ids of the names in it; raises `UserError` for a name there is not.
        mask: Labels of the unit's pixels in the file the text names, (m,), uint8; raises
            `UserError` for a file that cannot be used.
    """

    text: str
    suggested: int | None
    ids: Callable[[], list[int]]
    mask: Callable[[], NDArray[np.uint8]]


class Kind(ABC):
    """A kind of answer. What was said about n units is one column of n rows.

    A new kind is a subclass in a file of its own and a line in `alseg.labels.kinds.KINDS`.
    """

    #: Its name in queries, options and files.
    name: ClassVar[str]
    #: Where `alseg.labels.tables.Answers` keeps it.
    column: ClassVar[Column]
    #: Price of an answer, see `alseg.labels.budget.PRICES`.
    prices: ClassVar[Mapping[str, float]]
    #: Whether it says something of the pixels of the unit.
    covers_pixels: ClassVar[bool] = True
    #: Whether a query suggests a label for each unit.
    suggests: ClassVar[bool] = False
    #: Whether a person may write that it cannot be told.
    takes_unsure: ClassVar[bool] = True
    #: What a person is to write, with the unit for ``{unit}``.
    question: ClassVar[str]
    #: What a page asks a person who sees the unit, with the unit for ``{unit}``; by default it asks
    #: for what `question` says.
    asks: ClassVar[str] = ""
    #: An answer as a person writes it, with names of classes for ``{0}`` and ``{1}``.
    example: ClassVar[str]

    def ask(self, unit: str) -> str:
        """What a page asks about a kind of unit, a sentence."""
        return (self.asks or f"Give {self.question}.").format(unit=unit)

    def names(self, images: ImageSet) -> Sequence[str]:
        """Names the answers are chosen from, in the order of their ids."""
        return images.classes.names

    @abstractmethod
    def of_truth(
        self, units: Units, images: ImageSet, num_classes: int, how: Annotator
    ) -> Sequence[Any] | NDArray[Any]:
        """What the ground truth says of the units of an image.

        Args:
            units: The n units.
            images: Images with truth.
            num_classes: C.
            how: How the annotator looks.

        Returns:
            n rows: of the column `label` ids or VOID, of `sets` rows of (C + 1,) bool, of `masks`
            arrays of labels.
        """

    @abstractmethod
    def stored(self, rows: Sequence[Any] | NDArray[Any], num_classes: int) -> Any:
        """The column of n rows as `of_truth` gives them."""

    @abstractmethod
    def check(self, column: Any, num_classes: int, pixels: NDArray[np.int64]) -> None:
        """Refuse what cannot have been said.

        Args:
            column: What was said about n units.
            num_classes: C.
            pixels: Pixels of each unit, (n,).

        Raises:
            ValueError: For ids that are no class, or a mask that is not of the size of its unit.
        """

    @abstractmethod
    def written(self, answer: Written, num_names: int) -> Any:
        """One row from what a person wrote, as `of_truth` gives them.

        Args:
            answer: What was written.
            num_names: Number of names; this number is the id of void.

        Raises:
            ValueError: With what is wrong with the answer, as a clause.
        """

    @abstractmethod
    def void(self, num_names: int) -> Any:
        """The row that says void, as `of_truth` gives them."""

    def named(self, said: Said, num_classes: int, void_costs: bool) -> NDArray[np.int64]:
        """Classes named in each answer, which may have a price, (n,), int64.

        To say that it cannot be told costs what naming one class does.
        """
        return np.ones(len(said.column), dtype=np.int64)

    @abstractmethod
    def members(self, column: Any, num_classes: int) -> NDArray[np.bool_]:
        """The set of classes each answer implies, (n, C + 1), bool; the last column is void.

        Raises:
            ValueError: For a kind that implies none.
        """

    @abstractmethod
    def labels(self, column: Any, num_classes: int) -> NDArray[np.uint8]:
        """One label for all pixels of each unit, VOID where the answer gives none, (n,), uint8."""

    def paint(self, target: NDArray[np.uint8], units: Units, column: Any, num_classes: int) -> None:
        """Paint the answers about units of an image into a label map, in their order.

        Args:
            target: (H, W), uint8, changed in place; what is void or not known stays as it is.
            units: The n units.
            column: What was said, n rows.
            num_classes: C.
        """
        label = self.labels(column, num_classes)
        if units.runs is None:
            known = label != VOID
            target.reshape(-1)[units.unit[known]] = label[known]
            return
        # one table look-up for every run of the map; the last entry serves pixels in no region
        table = np.full(units.num_regions + 1, VOID, np.uint8)
        table[units.unit] = label
        painted = units.runs.spread(table[units.runs.ids])
        np.copyto(target, painted, where=painted != VOID)


class LabelKind(Kind):
    """A kind whose answer is one id, or void."""

    column: ClassVar[Column] = "label"
    example: ClassVar[str] = "{0}"

    def stored(self, rows: Sequence[Any] | NDArray[Any], num_classes: int) -> NDArray[np.uint8]:
        """A byte each."""
        return np.array(rows, dtype=np.uint8)

    def check(self, column: NDArray[np.uint8], num_classes: int, pixels: NDArray[np.int64]) -> None:
        """Ids are those of classes, or VOID."""
        wrong = (column >= num_classes) & (column != VOID)
        if wrong.any():
            raise ValueError(f"class {column[wrong][0]} of {num_classes}")

    def written(self, answer: Written, num_names: int) -> int:
        """The one name of an answer."""
        said = answer.ids()
        if len(said) != 1:
            raise ValueError(f"{answer.text!r} names {len(said)} classes; name one")
        return VOID if said[0] == num_names else said[0]

    def void(self, num_names: int) -> int:
        """VOID."""
        return VOID

    def members(self, column: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
        """The set of the one that was said."""
        said = np.minimum(column.astype(np.int64), num_classes)
        return np.asarray(np.arange(num_classes + 1)[None] == said[:, None])

    def labels(self, column: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
        """The answers themselves."""
        return column
