"""What the sections of a report say: words and numbers of one run, ready for a template."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.report import wording
from alseg.report.canvas import group_colors
from alseg.report.folder import IOU_PREFIX, PictureFiles, Run
from alseg.report.statistics import FEWEST, RECENT, gain_ahead

#: Parts of a round on the machine: column of ``rounds.csv`` -> what a reader calls it.
MACHINE = {"train_s": "Training", "score_s": "Scoring", "select_s": "Selecting"}

_FIGURES = {
    "asked": "Asked",
    "answered": "Answered",
    "prediction": "Prediction",
    "truth": "Ground truth",
}
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True)
class Tile:
    """A number to be seen first."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Figure:
    """A picture inside the page: its title, its content as a data address, its size in pixels."""

    title: str
    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Panel:
    """One round: what it bought, what it measured, and pairs of an entry and its figures."""

    number: int
    facts: Sequence[str]
    metrics: Sequence[tuple[str, str]]
    entries: Sequence[tuple[PictureFiles, Sequence[Figure]]]


@dataclass(frozen=True)
class Bar:
    """Machine time of one round: its sum, and name, share of the longest round and time by part."""

    number: int
    total: str
    parts: Sequence[tuple[str, float, str]]


@dataclass(frozen=True)
class Division:
    """How a whole is divided, round by round.

    Attributes:
        title: What is divided.
        parts: Name and colour of each part.
        bars: One per round; a part's colour is that in `parts`.
    """

    title: str
    parts: Sequence[tuple[str, str]]
    bars: Sequence[Bar]


def title(run: Run) -> str:
    """Headline of a run."""
    method, data = run.option("method", "name"), run.option("data", "name")
    named = f"{method} on {data}" if method and data else method or data
    return run.about.title or named or run.path.resolve().name


def facts(run: Run) -> list[tuple[str, str]]:
    """What the numbers of a run belong to: pairs of a name and a few words."""
    own = bool(run.about.title)  # otherwise the title says it already
    candidates = {
        "Method": run.option("method", "name") if own else "",
        "Data": run.option("data", "name") if own else "",
        "Seed": run.option("seed"),
        "Asked": run.about.units if run.about.unit else "",
        "Answer": run.about.answer.replace("_", " "),
        "Rounds": str(len(run.rounds)),
    }
    return [(name, value) for name, value in candidates.items() if value]


def last(values: NDArray[np.float64]) -> float:
    """The last number of a column that is there, or NaN."""
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else float("nan")


def tiles(run: Run) -> list[Tile]:
    """The numbers to be seen first."""
    found = [_miou_tile(run)]
    if "clicks" in run.table:
        clicks, units = last(run.table["clicks"]), last(run.table.get("units", np.zeros(0)))
        note = f"{clicks / units:.2f} per {run.about.unit or 'unit'}" if units > 0 else ""
        found.append(Tile("Clicks", wording.count(clicks), "", note))
    pool = run.about.pool
    whole = next((c for c in ("units", "pixels", "images") if c in pool and c in run.table), None)
    if whole:
        part = last(run.table[whole])
        value, _, unit = wording.share(part, pool[whole]).rpartition(" ")
        name = run.about.units if whole == "units" else whole
        note = f"{wording.count(part)} of {wording.count(pool[whole])} {name}"
        found.append(Tile("Share of the pool", value, unit, note))
    if "seconds" in run.table:
        value, _, unit = wording.duration(last(run.table["seconds"])).partition(" ")
        machine = sum(float(np.nansum(run.table[c])) for c in MACHINE if c in run.table)
        note = f"and {wording.duration(machine)} of machine time" if machine else ""
        found.append(Tile("Annotation time", value, unit, note))
    return found


def panels(run: Run) -> list[Panel]:
    """The rounds, first one first."""
    return [
        Panel(
            number,
            _bought(run, i),
            [(name, _shown(value)) for name, value in run.metrics(number).items()],
            [(entry, _figures(entry)) for entry in run.pictures(number)],
        )
        for i, number in enumerate(run.rounds)
    ]


def rounds_table(run: Run) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of rounds, without the IoU of the classes."""
    miou = run.table["miou"]
    before = np.concatenate([[np.nan], miou[:-1]])
    rows = {
        "Round": [str(number) for number in run.rounds],
        "mIoU, %": [wording.percent(v) for v in miou],
        "Change": [wording.change(a, b) for a, b in zip(before, miou, strict=True)],
    }
    for column, values in run.table.items():
        if column in ("round", "miou", *MACHINE) or column.startswith(IOU_PREFIX):
            continue
        if "/" in column:  # has a section of its own
            continue
        if column in run.companions:
            rows[f"mIoU {column.removeprefix('miou_')}, %"] = [wording.percent(v) for v in values]
        elif column == "seconds":
            length, unit, _ = wording.time_unit(last(values))
            rows[unit.capitalize()] = [wording.rounded(v / length) for v in values]
        elif column in ("images", "units", "pixels", "clicks"):
            name = run.about.units if column == "units" else column
            rows[name.capitalize()] = [wording.count(v) for v in values]
        else:
            rows[column.replace("_", " ").capitalize()] = [_shown(float(v)) for v in values]
    return list(rows), [list(row) for row in zip(*rows.values(), strict=True)]


def machine(run: Run) -> tuple[list[tuple[str, str]], list[Bar]]:
    """Time on the machine: (name, sum over all rounds) of each part, and one bar per round."""
    parts = {c: np.nan_to_num(run.table[c]) for c in MACHINE if c in run.table}
    totals = np.sum(list(parts.values()), axis=0) if parts else np.zeros(len(run.rounds))
    if not totals.any():
        return [], []
    legend = [(MACHINE[c], wording.duration(float(v.sum()))) for c, v in parts.items()]
    bars = [
        Bar(
            number,
            wording.duration(float(totals[i])),
            [
                (MACHINE[c], round(100 * float(v[i] / totals.max()), 2), wording.duration(v[i]))
                for c, v in parts.items()
            ],
        )
        for i, number in enumerate(run.rounds)
    ]
    return legend, bars


def divisions(run: Run) -> list[Division]:
    """What the method divides: columns of one name before the slash, as one bar per round."""
    wholes: dict[str, dict[str, NDArray[np.float64]]] = {}
    for column, values in run.table.items():
        whole, slash, part = column.partition("/")
        if slash:
            wholes.setdefault(whole, {})[part] = np.nan_to_num(values)
    found = []
    for whole, parts in wholes.items():
        totals = np.sum(list(parts.values()), axis=0)
        bars = [
            Bar(
                number,
                wording.count(float(total)),
                [
                    (name, round(100 * float(v[i] / totals.max()), 2), wording.count(float(v[i])))
                    for name, v in parts.items()
                ],
            )
            for i, (number, total) in enumerate(zip(run.rounds, totals, strict=True))
            if total > 0
        ]
        colors = [f"rgb({r} {g} {b})" for r, g, b in group_colors(len(parts)).tolist()]
        if bars:
            title = whole.replace("_", " ").capitalize()
            found.append(Division(title, list(zip(parts, colors, strict=True)), bars))
    return found


def advice(run: Run, ahead: float = 100.0) -> list[str]:
    """What more clicks may be expected to bring, as sentences; nothing is decided by them.

    Args:
        run: The run.
        ahead: Clicks of the first estimate; the second is for as many as the last round cost.
    """
    clicks, miou = run.table.get("clicks", np.zeros(0)), run.table["miou"]
    known = np.flatnonzero(np.isfinite(clicks[: len(miou)]) & np.isfinite(miou[: len(clicks)]))
    paid = known[np.diff(clicks[known], prepend=0.0) > 0]  # rounds that cost something
    if not len(paid):
        return []
    if len(paid) < FEWEST:
        rounds = "1 measured round" if len(paid) == 1 else f"{len(paid)} measured rounds"
        return [
            f"Whether more clicks pay cannot be said from {rounds}: it takes at least {FEWEST}."
        ]
    spent = float(clicks[paid[-1]])
    latest = spent - float(clicks[paid[-2]])
    said = []
    count = wording.count
    for cost, name in (
        (ahead, f"{count(ahead)} clicks more"),
        (latest, f"another round of {count(latest)} clicks"),
    ):
        gain = gain_ahead(clicks[paid], miou[paid], cost)
        if gain is None:
            said.append(
                f"Of {name} nothing can be said: they are more than the {count(spent)} that were "
                f"spent in all."
            )
            continue
        value, low, high = (wording.change(0.0, share) for share in gain)
        open_ = " It may as well be nothing." if gain.low <= 0 <= gain.high else ""
        said.append(
            f"Of {name} expect {value} points of mIoU ({low} to {high}, a 90 % interval).{open_}"
        )
    return [
        *(said[:1] if latest == ahead else said),
        f"This holds if the curve goes on as in its last {min(RECENT, len(paid))} measured rounds "
        f"(mIoU rising with the logarithm of the clicks); curves often flatten, so that it is "
        f"rather too high. The run stops where you stop it.",
    ]


def _miou_tile(run: Run) -> Tile:
    miou = run.table["miou"]
    known = np.flatnonzero(np.isfinite(miou)).tolist()
    note = f"in round {run.rounds[known[-1]]}" if known else "not measured yet"
    if len(known) > 1:
        gain = wording.change(miou[known[0]], miou[known[-1]])
        note += f", {gain} since round {run.rounds[known[0]]}"
    return Tile("mIoU", wording.percent(last(miou)), "%" if known else "", note)


def _bought(run: Run, i: int) -> list[str]:
    """What one round added, and where the mIoU went."""
    said = []
    for column, name in (("units", run.about.units), ("clicks", "clicks"), ("seconds", "")):
        if column in run.table:
            values = run.table[column]
            added = float(values[i] - (values[i - 1] if i else 0.0))
            number = wording.duration(added) if column == "seconds" else wording.count(added)
            said.append(
                f"{'' if number.startswith(('-', wording.NOTHING)) else '+'}{number} {name}"
            )
    miou = run.table["miou"]
    measured = f"mIoU {wording.percent(miou[i])} %" if np.isfinite(miou[i]) else "mIoU not measured"
    if i and np.isfinite(miou[i - 1 : i + 1]).all():
        measured += f" ({wording.change(miou[i - 1], miou[i])})"
    return [*(text.strip() for text in said), measured]


def _figures(entry: PictureFiles) -> list[Figure]:
    figures = []
    for what, path in entry.files.items():
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        with Image.open(path) as picture:
            width, height = picture.size
        source = f"data:{_MEDIA_TYPES[path.suffix]};base64,{content}"
        figures.append(Figure(_FIGURES.get(what, what.capitalize()), source, width, height))
    return figures


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return wording.NOTHING if np.isnan(value) else f"{value:.4g}"
    return str(value)
