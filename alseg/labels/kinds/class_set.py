"""The set of classes in a region."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.labels.kinds.base import Annotator, Column, Kind, Said, Units, Written
from alseg.labels.truth import class_sets


class ClassSet(Kind):
    """Every class in a unit, void among them (Hwang et al., NeurIPS 2023)."""

    name: ClassVar[str] = "class_set"
    column: ClassVar[Column] = "sets"
    #: Fig. 1 of arXiv 2309.09319: 17.13 s for 3 clicks.
    prices: ClassVar[dict[str, float]] = {"clicks_per_class": 1.0, "seconds_per_class": 5.71}
    asks: ClassVar[str] = "Which classes are in the {unit}?"
    question: ClassVar[str] = "every class you see in the {unit}, separated by semicolons"
    example: ClassVar[str] = "{0};{1}"

    def of_truth(
        self, units: Units, images: ImageSet, num_classes: int, how: Annotator
    ) -> NDArray[np.bool_]:
        """The sets, (n, C + 1), bool; the last column is void."""
        truth = images.truth(units.image)
        if units.regions is not None:
            found, _ = class_sets(units.regions, truth, num_classes, units.num_regions, how.trim)
            return found[units.unit]
        column = np.minimum(truth.ravel()[units.unit], num_classes)
        return np.asarray(np.arange(num_classes + 1)[None] == column[:, None])

    def stored(self, rows: Sequence[Any] | NDArray[Any], num_classes: int) -> NDArray[np.uint8]:
        """A bit for each class and for void."""
        members = np.array(rows, dtype=bool) if len(rows) else np.zeros((0, num_classes + 1), bool)
        return pack_sets(members)

    def check(self, column: NDArray[np.uint8], num_classes: int, pixels: NDArray[np.int64]) -> None:
        """As many bits as there are classes."""
        if column.shape[1:] != (-(-(num_classes + 1) // 8),):
            raise ValueError(f"sets of {column.shape[1:]} bytes for {num_classes} classes")

    def written(self, answer: Written, num_names: int) -> NDArray[np.bool_]:
        """The set of the names in an answer."""
        members = np.zeros(num_names + 1, dtype=bool)
        members[answer.ids()] = True
        return members

    def void(self, num_names: int) -> NDArray[np.bool_]:
        """The set of void alone."""
        return np.arange(num_names + 1) == num_names

    def named(self, said: Said, num_classes: int, void_costs: bool) -> NDArray[np.int64]:
        """The size of each set."""
        members = unpack_sets(said.column, num_classes)
        sizes = members[:, : None if void_costs else -1].sum(axis=1)
        return np.where(said.unsure, 1, sizes)

    def members(self, column: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
        """The sets."""
        return unpack_sets(column, num_classes)

    def labels(self, column: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
        """The label of sets that hold one class and nothing else, VOID for all others."""
        members = unpack_sets(column, num_classes)
        single = (members.sum(axis=1) == 1) & ~members[:, -1]
        return np.where(single, members.argmax(axis=1), VOID).astype(np.uint8)


def pack_sets(members: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack class sets into bits.

    Args:
        members: (n, C + 1), bool; the last column is void.

    Returns:
        (n, ceil((C + 1) / 8)), uint8, as `alseg.labels.tables.Answers.sets`.
    """
    return np.packbits(members, axis=1)


def unpack_sets(sets: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
    """The sets packed by `pack_sets`, (n, C + 1), bool."""
    return np.unpackbits(sets, axis=1, count=num_classes + 1).astype(bool)
