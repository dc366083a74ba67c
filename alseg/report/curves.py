"""Learning curves of runs, against every cost axis they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.report import wording
from alseg.report.chart import Chart, Series, layout
from alseg.report.folder import Run

#: What a curve can be drawn against: column of ``rounds.csv`` -> name of the axis.
AXES = {
    "clicks": "Clicks",
    "seconds": "Annotation time",
    "pixels": "Pixels",
    "units": "Units",
    "images": "Images",
    "round": "Rounds",
}
#: How many colours of curves the style sheet knows; slot ``s`` has colour ``s % COLORS``.
COLORS = 7
_MOST_POINTS = 50


@dataclass(frozen=True)
class Curve:
    """A column of a run to be drawn.

    Attributes:
        run: The run.
        column: Column of ``rounds.csv`` with values 0..1.
        name: What the legend calls it.
        slot: Number of its colour.
        dash: How it is drawn: 0 solid, 1 dashed, 2 dotted.
        minor: Whether it is drawn thin, as a companion of another curve.
    """

    run: Run
    column: str
    name: str
    slot: int
    dash: int = 0
    minor: bool = False


def curves_of(run: Run) -> list[Curve]:
    """The mIoU of a run, and in front of it, since it is drawn last, its companions."""
    companions = [
        Curve(run, column, f"mIoU {column.removeprefix('miou_')}", slot, minor=True)
        for slot, column in enumerate(run.companions, start=1)
    ]
    return [*companions, Curve(run, "miou", "mIoU", 0)]


def compared_curves(runs: Sequence[Run], names: Sequence[str]) -> list[Curve]:
    """The mIoU of several runs. Runs of one method share a colour where methods are compared."""
    methods = [run.option("method", "name") for run in runs]
    groups = methods if len(set(methods)) > 1 else list(names)
    order = list(dict.fromkeys(groups))
    return [
        Curve(
            run,
            "miou",
            name,
            slot=order.index(group),
            dash=(order.index(group) // COLORS + groups[:i].count(group)) % 3,
        )
        for i, (run, name, group) in enumerate(zip(runs, names, groups, strict=True))
    ]


def learning_curves(curves: Sequence[Curve]) -> list[Chart]:
    """One chart for each cost axis on which no run is without costs; rounds are always one.

    Args:
        curves: What to draw, at least one.

    Returns:
        The charts, in the order of `AXES`. Where pixels or whole images are asked about, they are
        the units, and are not offered twice.
    """
    axes = [a for a in AXES if a == "round" or all(_largest(c.run, a) > 0 for c in curves)]
    units = {curve.run.about.units for curve in curves}
    if "units" in axes and len(units) == 1 and units < {*axes}:
        axes.remove("units")
    return [_chart(axis, curves) for axis in axes]


def training_charts(run: Run) -> list[Chart]:
    """How the shares moved that stages logged in training, in the last round that has any.

    Args:
        run: The run.

    Returns:
        One chart per stage that logged shares, named after it.
    """
    for number in reversed(run.rounds):
        if stages := run.shares(number):
            return [_training_chart(stage, shares) for stage, shares in stages.items()]
    return []


def _training_chart(stage: str, shares: Mapping[str, NDArray[np.float64]]) -> Chart:
    """Means of as many neighbouring batches as leave a line to be seen."""
    batches = shares["batch"]
    groups = np.array_split(np.arange(len(batches)), min(len(batches), _MOST_POINTS))
    x = np.array([batches[group].mean() + 1 for group in groups])
    series = []
    for slot, (column, values) in enumerate(list(shares.items())[1:]):
        name = column.replace("_", " ").capitalize()
        y = np.array([100 * values[group].mean() for group in groups])
        titles = [
            f"{name}: {v:.1f} % at batch {wording.count(b)}" for b, v in zip(x, y, strict=True)
        ]
        series.append(Series(name, slot, x, y, titles, minor=True))
    return layout(stage, "Batches", "%", series)


def _largest(run: Run, column: str) -> float:
    values = run.table.get(column, np.zeros(0))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _chart(axis: str, curves: Sequence[Curve]) -> Chart:
    name = label = AXES[axis]
    length = 1.0
    units = {curve.run.about.units for curve in curves}
    if axis == "units" and len(units) == 1:
        name = label = units.pop().capitalize()
    elif axis == "seconds":
        length, unit, _ = wording.time_unit(max(_largest(curve.run, axis) for curve in curves))
        label = f"{label}, {unit}"
    series = [_series(curve, axis, name.lower(), length) for curve in curves]
    return layout(name, label, "mIoU, %", series)


def _series(curve: Curve, axis: str, noun: str, length: float) -> Series:
    costs, values = curve.run.table[axis], curve.run.table[curve.column]
    titles = []
    for number, cost, value in zip(curve.run.rounds, costs, values, strict=True):
        title = f"{curve.name}, round {number}: {wording.percent(value)} %"
        if axis == "seconds":
            title += f" after {wording.duration(cost)}"
        elif axis != "round":
            title += f" at {wording.count(cost)} {noun}"
        titles.append(title)
    x, y = costs / length, 100 * values
    return Series(curve.name, curve.slot, x, y, titles, curve.dash, curve.minor)
