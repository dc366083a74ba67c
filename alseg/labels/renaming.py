"""Answers as another table of classes and another list of images have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.labels.kinds.class_set import pack_sets, unpack_sets
from alseg.labels.tables import Answers


@dataclass(frozen=True)
class Renaming:
    """What the ids of one table of classes are in another.

    Attributes:
        old: Names of the classes before.
        new: Names of the classes now.
        said_as: What a class is called now by its name before, ``void`` for no class; classes
            that are not named keep their names.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    said_as: Mapping[str, str]

    @property
    def table(self) -> NDArray[np.uint8]:
        """The id now by the id before, (256,), uint8; VOID stays, and stands for what is gone."""
        table = np.full(VOID + 1, VOID, dtype=np.uint8)
        for number, name in enumerate(self.old):
            called = self.said_as.get(name, name)
            if called in self.new:
                table[number] = self.new.index(called)
        return table

    @property
    def gone(self) -> NDArray[np.int64]:
        """Ids before of the classes that are none now, and of which nobody said what they are."""
        names = [self.said_as.get(name, name) for name in self.old]
        found = [
            number
            for number, name in enumerate(names)
            if name not in self.new and not (name == "void" and self.old[number] in self.said_as)
        ]
        return np.array(found, dtype=np.int64)

    def __call__(self, answers: Answers) -> Answers:
        """Answers with the ids of now; what is gone becomes void."""
        table, changed = self.table, dict[str, Any]()
        if answers.label is not None:
            changed["label"] = table[answers.label]
        if answers.masks is not None:
            changed["masks"] = tuple(table[mask] for mask in answers.masks)
        if answers.suggested is not None:
            changed["suggested"] = table[answers.suggested]
        if answers.sets is not None:
            before = unpack_sets(answers.sets, len(self.old))
            members = np.zeros((len(before), len(self.new) + 1), dtype=bool)
            targets = np.minimum(table[: len(self.old)].astype(np.int64), len(self.new))
            for number, target in enumerate([*targets.tolist(), len(self.new)]):
                members[:, target] |= before[:, number]
            changed["sets"] = pack_sets(members)
        return replace(answers, num_classes=len(self.new), **changed)


def times_said(answers: Answers, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """In how many answers each of some classes is said.

    Args:
        answers: The answers.
        ids: Class ids, (k,).

    Returns:
        (k,), int64.
    """
    if answers.masks is not None:
        found = [np.isin(ids, np.unique(mask)) for mask in answers.masks]
        return np.sum([np.zeros(len(ids), dtype=bool), *found], axis=0, dtype=np.int64)
    return np.asarray(answers.members()[:, ids].sum(axis=0, dtype=np.int64))


def picked(answers: Answers, rows: NDArray[np.int64]) -> Answers:
    """Some rows of a table of answers, (k,) numbers of rows, in their order."""
    names = ("image", "unit", "label", "sets", "seconds", "unsure", "suggested")
    columns = {name: getattr(answers, name) for name in names}
    cut: dict[str, Any] = {n: column[rows] for n, column in columns.items() if column is not None}
    if answers.masks is not None:
        cut["masks"] = tuple(answers.masks[row] for row in rows.tolist())
    return replace(answers, **cut)


def last_of_each(
    tables: Sequence[Answers],
) -> tuple[list[NDArray[np.int64]], list[tuple[int, int, int, int]]]:
    """Which rows stand where units were answered several times by the same kind of answer.

    Args:
        tables: Answers, the oldest first.

    Returns:
        For every table its rows that no later row is about as well, ascending; and for every row
        that is not among them: its table and row, and those of the row that stands.
    """
    keep = [np.ones(len(table), dtype=bool) for table in tables]
    replaced: list[tuple[int, int, int, int]] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for number, table in enumerate(tables):
        groups.setdefault((table.answer, table.regions), []).append(number)
    for numbers in groups.values():
        parts = [tables[number] for number in numbers]
        source = np.repeat(numbers, [len(part) for part in parts])
        row = np.concatenate([np.arange(len(part)) for part in parts])
        image = np.concatenate([part.image for part in parts])
        unit = np.concatenate([part.unit for part in parts])
        order = np.lexsort((np.arange(len(row)), unit, image))  # the last of equals is the newest
        same = (np.diff(image[order]) == 0) & (np.diff(unit[order]) == 0)
        stands = np.append(~same, np.ones(min(1, len(order)), dtype=bool))
        ends = np.flatnonzero(stands)
        for place in np.flatnonzero(~stands).tolist():
            last = ends[np.searchsorted(ends, place)]
            old, new = int(order[place]), int(order[last])
            keep[int(source[old])][int(row[old])] = False
            replaced.append((int(source[old]), int(row[old]), int(source[new]), int(row[new])))
    return [np.flatnonzero(rows) for rows in keep], replaced
