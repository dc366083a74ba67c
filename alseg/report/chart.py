"""Where the parts of a line chart lie, in per cent of its area, so that a page can stretch it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.report.wording import compact

_MOST_LEVELS = 6


@dataclass(frozen=True)
class Series:
    """One line to be drawn.

    Attributes:
        name: What the legend calls it.
        slot: Number of its colour; lines with equal numbers share one.
        dash: How it is drawn: 0 solid, 1 dashed, 2 dotted.
        x: Cost, (n,), float.
        y: Value, (n,), float; points with NaN are left out and the line goes on to the next one.
        titles: What to say about each point, n of them.
        minor: Whether it is drawn thin, as a companion of another line.
    """

    name: str
    slot: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    titles: Sequence[str]
    dash: int = 0
    minor: bool = False


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in per cent from the left or from the top."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point of a line, in per cent from the left and from the top."""

    x: float
    y: float
    label: str
    title: str


@dataclass(frozen=True)
class Line:
    """A series after layout."""

    name: str
    slot: int
    dash: int
    minor: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """Everything a template needs to draw one chart.

    Attributes:
        name: Short name of the horizontal axis, for the button that chooses it.
        x_label: Title of the horizontal axis, with its unit.
        y_label: Title of the vertical axis, with its unit.
        x_ticks: From left to right.
        y_ticks: From bottom to top.
        lines: In the order of the series.
    """

    name: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Lower end of the range.
        high: Upper end of the range, above the lower one.
        most: The largest number of ticks.

    Returns:
        At least one tick, in rising order.

    >>> ticks(0, 0.7), ticks(412, 1630)
    ([0.0, 0.2, 0.4, 0.6], [500.0, 1000.0, 1500.0])
    """
    step = _step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def layout(name: str, x_label: str, y_label: str, series: Sequence[Series]) -> Chart:
    """Place lines, points and ticks.

    The cost axis starts at zero. The value axis (per cent, 0..100) starts at zero too, unless all
    values lie in its upper part, where the curve would be squeezed into a corner of the chart.

    Args:
        name: Short name of the horizontal axis.
        x_label: Title of the horizontal axis.
        y_label: Title of the vertical axis.
        series: The lines; one may hold a single point, or none that is not NaN.

    Returns:
        The chart.
    """
    shown = [np.isfinite(s.x) & np.isfinite(s.y) for s in series]
    x = np.concatenate([np.zeros(0), *(s.x[keep] for s, keep in zip(series, shown, strict=True))])
    y = np.concatenate([np.zeros(0), *(s.y[keep] for s, keep in zip(series, shown, strict=True))])
    right = float(x.max(initial=0.0)) * 1.04 or 1.0  # room for the last point
    levels = _levels(y)
    bottom, top = levels[0], levels[-1]

    def place_x(value: float) -> float:
        return round(100 * value / right, 3)

    def place_y(value: float) -> float:
        return round(100 * (top - value) / (top - bottom), 3)

    lines = []
    for s, keep in zip(series, shown, strict=True):
        marks = tuple(
            Mark(place_x(float(s.x[i])), place_y(float(s.y[i])), f"{s.y[i]:.1f}", s.titles[i])
            for i in np.flatnonzero(keep).tolist()
        )
        lines.append(Line(s.name, s.slot, s.dash, s.minor, marks))
    return Chart(
        name,
        x_label,
        y_label,
        tuple(Tick(place_x(t), compact(t)) for t in ticks(0.0, right)),
        tuple(Tick(place_y(t), compact(t)) for t in levels),
        tuple(lines),
    )


def _step(span: float, most: int) -> float:
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(f * power for f in (1, 2, 5, 10, 20) if math.floor(span / (f * power)) < most)


def _levels(y: NDArray[np.float64]) -> list[float]:
    """Ticks of the value axis; the first and the last are its ends."""
    low, high = float(y.min(initial=100.0)), float(y.max(initial=0.0))
    if low >= high or low < 0.25 * high:
        low = 0.0
    step = _step(max(high - low, 1.0), _MOST_LEVELS)
    bottom = math.floor(low / step)
    top = math.ceil((high + 0.05 * (high - bottom * step)) / step)  # room for the last label
    return [round(i * step, 12) for i in range(bottom, max(top, bottom + 1) + 1)]
