"""What the report says of people's work: their pace, how they agree, and with the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.labels.agreement import cohen_kappa
from alseg.report import wording
from alseg.report.chart import Chart, Series, layout
from alseg.report.folder import DISAGREEMENT, Run

#: Points of the line of an annotator.
_MOST_POINTS = 40
#: File of a round, written by the page: seconds of every answer in the order of answering.
_TIMES = "label/times.json"
#: File of a round, written by the page where questions were asked twice.
_AGREEMENT = "label/agreement.json"


@dataclass(frozen=True)
class Pace:
    """Seconds per answer, in the order of answering, and a sentence about them."""

    chart: Chart
    text: str


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        text: The number.
        share: Its share of the row, 0..1; None where it is not coloured.
        alike: Whether both say the same in it.
    """

    text: str
    share: float | None
    alike: bool


@dataclass(frozen=True)
class Table:
    """Who said what how often.

    Attributes:
        id: Names the section.
        title: Its headline.
        text: Sentences above the table.
        header: Heads of the columns; the first one is that of the names of the rows.
        rows: Name and cells of each row; none where there is no table.
    """

    id: str
    title: str
    text: Sequence[str]
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def pace(run: Run) -> Pace | None:
    """Seconds per answer over time, None where nobody's time was measured."""
    seconds, names = _times(run)
    if not len(seconds):
        return None
    order = np.arange(1, len(seconds) + 1, dtype=np.float64)
    series = []
    for slot, name in enumerate(dict.fromkeys(names.tolist())):
        own = np.flatnonzero(names == name)
        groups = np.array_split(own, min(len(own), _MOST_POINTS))
        x = np.array([order[group].mean() for group in groups])
        y = np.array([float(np.median(seconds[group])) for group in groups])
        titles = [
            f"{name + ': ' if name else ''}{v:.1f} s at answer {wording.count(at)}"
            for at, v in zip(x, y, strict=True)
        ]
        series.append(Series(name, slot, x, y, titles, minor=True))
    third = max(1, len(seconds) // 3)
    text = f"Median {np.median(seconds):.1f} s, in all {wording.duration(float(seconds.sum()))}."
    if len(seconds) >= 30:
        first, last = (float(np.median(part)) for part in (seconds[:third], seconds[-third:]))
        text += f" The first third of the answers took {first:.1f} s each, the last {last:.1f} s."
    if len(seconds) > _MOST_POINTS:
        text += " Points are medians of neighbouring answers."
    return Pace(layout("pace", "Answers", "Seconds", series), text)


def _times(run: Run) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Measured seconds of all answers and their annotators, as far as both are known."""
    seconds: list[NDArray[np.float64]] = [np.zeros(0)]
    names: list[str] = []
    for number in run.rounds:
        told: Mapping[str, Any] | None = run.read(number, _TIMES)
        own = run.seconds(number) if told is None else np.array(told["seconds"], np.float64)
        by = [""] * len(own) if told is None else told["by"]
        known = np.isfinite(own)
        seconds.append(own[known])
        names += [name for name, there in zip(by, known.tolist(), strict=True) if there]
    return np.concatenate(seconds), np.array(names, dtype=np.str_)


def annotators(run: Run) -> list[Table]:
    """How those agree who were asked the same questions; nothing where none was asked twice."""
    found = [(n, told) for n in run.rounds if (told := run.read(n, _AGREEMENT)) is not None]
    tables = []
    for alike in _together(found):
        kappa = cohen_kappa(alike.summed)
        value = (
            "cannot be computed: chance alone would agree" if np.isnan(kappa) else f"{kappa:.2f}"
        )
        text = [
            f"{wording.count(alike.questions)} questions were asked twice. Cohen's kappa {value} "
            f"(1 = always the same, 0 = as by chance)."
        ]
        tables.append(_table("annotators", "Agreement of annotators", text, alike, "First answer",
                             ("both", "the first alone", "the second alone")))  # fmt: skip
    return tables


def model(run: Run) -> list[Table]:
    """Where the model, after training, says something else than people; the last such round."""
    found = [(n, told) for n in run.rounds if (told := run.read(n, DISAGREEMENT)) is not None]
    if not found:
        return []
    shares = []
    for number, told in found:
        counts = np.array(told["counts"], dtype=np.int64)
        if counts.sum():
            same = np.trace(_summed(counts)) / counts.sum()
            shares.append(f"round {number} {wording.percent(float(same))} %")
    number, told = found[-1]
    (alike,) = _together([(number, told)])
    text = [
        f"The model, after it was trained on the answers, against what was said; it is the same "
        f"in: {', '.join(shares) or wording.NOTHING}. Where they differ, either may be wrong: it "
        f"is worth a second look.",
        f"The table is of round {number}, {wording.count(alike.questions)} answers.",
    ]
    if told["images"] < told["of"]:
        text[1] += f" The {told['images']} images with most answers of {told['of']} were compared."
    return [_table("model", "Model and annotator", text, alike, "Said, and predicted",
                   ("both", "the annotator alone", "the model alone"))]  # fmt: skip


@dataclass(frozen=True)
class _Alike:
    """Counts of several rounds with the same names: see `alseg.labels.agreement.Agreement`."""

    names: Sequence[str]
    questions: int
    counts: NDArray[np.int64]

    @property
    def summed(self) -> NDArray[np.int64]:
        """The confusion table; of sets, that of named and not named over all classes."""
        return _summed(self.counts)


def _summed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(counts.sum(axis=0)) if counts.ndim == 3 else counts


def _together(found: Sequence[tuple[int, Mapping[str, Any]]]) -> list[_Alike]:
    """Rounds that asked for the same kind of answer from the same names, added up."""
    groups: dict[tuple[Any, ...], _Alike] = {}
    for _, told in found:
        counts = np.array(told["counts"], dtype=np.int64)
        key = (told["answer"], tuple(told["names"]), counts.shape)
        before = groups.get(key)
        own = _Alike(told["names"], int(told["questions"]), counts)
        groups[key] = own if before is None else _Alike(
            own.names, before.questions + own.questions, before.counts + own.counts
        )  # fmt: skip
    return list(groups.values())


def _table(
    id: str,
    title: str,
    text: Sequence[str],
    alike: _Alike,
    corner: str,
    heads: tuple[str, str, str],
) -> Table:
    counts = alike.counts
    if counts.ndim == 3:  # of each class, who named it
        rows = [
            (name, [_cell(of, k, k == 0) for k in range(3)])
            for name, of in zip(alike.names, counts[:, [1, 1, 0], [1, 0, 1]], strict=True)
            if of.sum()
        ]
        return Table(id, title, text, ["Named by", *heads], rows)
    shown = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1)).tolist()
    rows = [
        (alike.names[i], [_cell(counts[i, shown], k, shown[k] == i) for k in range(len(shown))])
        for i in shown
        if counts[i].sum()
    ]
    return Table(id, title, text, [corner, *(alike.names[i] for i in shown)], rows)


def _cell(row: NDArray[np.int64], place: int, alike: bool) -> Cell:
    value = int(row[place])
    if not value:
        return Cell("", None, alike)
    return Cell(wording.count(value), float(value / row.sum()), alike)
