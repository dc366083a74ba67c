"""Answers that were given and are kept: of rounds that a correction has set aside."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import read_json, write_atomic
from alseg.labels.tables import PIXELS, Answers, Query

#: Folder of a run with the rounds that were set aside, one folder per correction.
ASIDE = "set_aside"
#: File of a round with the numbers of the questions that were owned when the others were asked.
ROWS = "owned_rows.json"


class OwnedAnswers:
    """Every answer of some tables by what it is about; of several about one unit the last counts.

    Args:
        tables: Answers, the oldest first.
        regions: Versions of maps whose ids still mean the same.
    """

    def __init__(self, tables: Sequence[Answers], regions: Sequence[str]) -> None:
        self._tables = [table for table in tables if table.regions in regions]
        self._of: dict[tuple[str, str, int, int], tuple[int, int]] = {}
        for number, table in enumerate(self._tables):
            for row, (image, unit) in enumerate(
                zip(table.image.tolist(), table.unit.tolist(), strict=True)
            ):
                self._of[table.answer, table.regions, image, unit] = number, row

    @classmethod
    def set_aside(cls, root: Path, regions: Sequence[str]) -> "OwnedAnswers":
        """Those of the rounds of a run that were set aside.

        Args:
            root: The run folder.
            regions: See the class.

        Raises:
            UserError: If a table is damaged.
        """
        paths = sorted(root.glob(f"{ASIDE}/*/round_*/answers.npz"))
        return cls([Answers.load(path) for path in paths], regions)

    def holds(self, query: Query) -> NDArray[np.bool_]:
        """Which questions are answered, (n,), bool."""
        found = [self._key(query, row) in self._of for row in range(len(query))]
        return np.array(found, dtype=bool)

    def merged(self, query: Query, new: Answers | None) -> Answers:
        """The first rows of a query from what is owned and what was answered now.

        Args:
            query: All questions, in order.
            new: Answers to the first of the questions that are not owned; None = to none.

        Returns:
            Answers up to the first question that nobody answered.
        """
        sources = [*self._tables, *([] if new is None else [new])]
        picked: list[tuple[Answers, int]] = []
        taken = 0
        for row in range(len(query)):
            known = self._of.get(self._key(query, row))
            if known is not None:
                picked.append((sources[known[0]], known[1]))
            elif new is not None and taken < len(new):
                picked.append((new, taken))
                taken += 1
            else:
                break
        return _stacked(query.head(len(picked)), picked)

    def _key(self, query: Query, row: int) -> tuple[str, str, int, int]:
        return query.answer, query.regions, int(query.image[row]), int(query.unit[row])


def asked_nobody(
    folder: Path, query: Query, owned: OwnedAnswers, writes: bool = True
) -> NDArray[np.bool_]:
    """Which questions of a round nobody is asked, for they are owned, (n,), bool.

    It stays as it was when the others were asked: their answers are numbered without these.

    Args:
        folder: Folder of the round.
        query: All questions.
        owned: What is owned now.
        writes: Whether this process writes.

    Raises:
        UserError: If answers that were owned then are gone.
    """
    path, known = folder / ROWS, np.zeros(len(query), dtype=bool)
    if path.exists():
        known[_rows_of(path, len(query))] = True
        if (known & ~owned.holds(query)).any():
            raise UserError(
                f"{path} names answers that were owned, and {folder.parent / ASIDE} no longer "
                f"holds them; restore that folder from a copy."
            )
    elif not any((folder / name).exists() for name in ("questions.csv", "answers.csv")):
        known = owned.holds(query)
        if known.any() and writes:
            write_atomic(path, json.dumps({"rows": np.flatnonzero(known).tolist()}) + "\n")
    return known


def numbered(folder: Path, query: Query) -> Query:
    """The questions of a round that somebody is asked, which the lines of its answers number.

    Args:
        folder: Folder of the round.
        query: All of its questions.

    Raises:
        UserError: If the file that names the others is damaged.
    """
    path = folder / ROWS
    if not path.exists():
        return query
    return query.rows(np.setdiff1d(np.arange(len(query)), _rows_of(path, len(query))))


def with_owned(folder: Path, answers: Answers) -> Answers:
    """Answers of a round as its query asks: those given now, between those that were owned.

    Args:
        folder: Folder of the round, in its run folder.
        answers: To the first of the questions that somebody was asked, see `numbered`.

    Raises:
        UserError: If a table of the rounds that were set aside is damaged.
    """
    if not (folder / ROWS).exists():
        return answers
    query = Query.load(folder / "query.npz")
    return OwnedAnswers.set_aside(folder.parent, (PIXELS, query.regions)).merged(query, answers)


def _rows_of(path: Path, questions: int) -> list[int]:
    """The numbers of questions in a file.

    Raises:
        UserError: If it is damaged.
    """
    mend = "restore it from a copy: it says which questions of the round are numbered"
    rows = read_json(path, mend=mend).get("rows")
    if not isinstance(rows, list) or not all(
        type(row) is int and 0 <= row < questions for row in rows
    ):
        raise UserError(f"{path} does not hold numbers of the {questions} questions; {mend}.")
    return rows


def _stacked(query: Query, picked: Sequence[tuple[Answers, int]]) -> Answers:
    """Answers to a query, row by row from other tables."""
    one = picked[0][0]
    said: Any = [table.said[row] for table, row in picked]
    masks = one.masks is not None
    columns: dict[str, Any] = {
        name: (tuple(said) if masks else np.array(said))
        for name in ("label", "sets", "masks")
        if getattr(one, name) is not None
    }
    seconds = np.array(
        [np.nan if t.seconds is None else t.seconds[row] for t, row in picked], dtype=np.float32
    )
    unsure = np.array([t.unsure is not None and bool(t.unsure[row]) for t, row in picked])
    return replace(
        one,
        round=query.round,
        kind=query.kind,
        image=query.image,
        unit=query.unit,
        seconds=seconds if np.isfinite(seconds).any() else None,
        unsure=unsure if unsure.any() else None,
        suggested=query.suggested,
        **columns,
    )
