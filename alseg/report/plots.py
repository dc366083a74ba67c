"""Figures of a comparison for papers, drawn by matplotlib: SVG and PDF with the same bytes always.

Figures are written without the time they were made at, so that they can be committed and checked.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.report import wording
from alseg.report.comparison import Comparison
from alseg.report.curves import AXES
from alseg.report.statistics import FEWEST_SHOWN, Interval, mean_interval
from alseg.report.tables import MEASURE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours and markers of groups, in their order; further groups have the same colours dashed.
COLORS = ("#5d6670", "#0068a8", "#cf5600", "#008a64", "#b8558f", "#b07c00", "#3f9fdb", "#7a4fbf")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":")
FORMATS = ("svg", "pdf")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6570",
    "axes.grid": True,
    "grid.color": "#e1e4e8",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "alseg",  # names inside the file do not change from run to run
    "pdf.fonttype": 42,  # text stays text, as publishers ask
}
_WIDTH = 6.4
#: Points of a mean curve, and dots of a run, that are drawn at most: some runs have 1000 rounds.
_POINTS, _DOTS = 200, 40
#: Names side by side in a legend.
_COLUMNS = 3
_INK = "#15191e"


def figures(comparison: Comparison) -> dict[str, "Figure"]:
    """All figures that a comparison has the runs for, by the names of their files.

    Raises:
        UserError: Without matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UserError(
            "the figures are drawn by matplotlib, which is not installed; pip install "
            "'alseg[compare]'."
        ) from error
    with mpl.rc_context(_STYLE):
        found = {"curves": curves(comparison)}
        if comparison.against is not None and len(comparison.groups) > 1:
            found["differences"] = differences(comparison)
        if np.isfinite(comparison.penalties).any():
            found["penalties"] = penalties(comparison)
        if comparison.ranks is not None:
            found["ranks"] = ranks(comparison, comparison.ranks)
    return found


def encoded(figure: "Figure", suffix: str) -> bytes:
    """A figure as the content of a file: ``svg``, ``pdf`` or ``png``."""
    import matplotlib as mpl

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format=suffix, metadata=undated.get(suffix), dpi=200)
    return buffer.getvalue()


def curves(comparison: Comparison) -> "Figure":
    """Mean curves with 95 % intervals, the runs as dots, and full supervision as a line."""
    figure, axes = _figure(comparison, 3.4)
    scale, _ = _unit(comparison)
    for slot, group in enumerate(comparison.groups):
        grid = group.grid[_spread(len(group.grid), _POINTS)]
        intervals = _intervals(group.values(grid))
        _band(axes, grid / scale, intervals, slot, group.name, 100)
        for trial in group.trials:
            dots = {"ls": "", "ms": 3, "alpha": 0.55, **_look(slot)}
            kept = _spread(len(trial.costs), _DOTS)
            places = trial.costs[kept] / scale + _aside(slot, grid / scale)
            axes.plot(places, 100 * trial.miou[kept], **dots)
    if comparison.level is not None and comparison.full is not None:
        label = f"{comparison.full.name} (all labels)"
        axes.axhline(100 * comparison.level, color=_INK, lw=1.2, ls=(0, (5, 3)), label=label)
    axes.set_ylabel("mIoU, %")
    _legend(figure, axes)
    return figure


def differences(comparison: Comparison) -> "Figure":
    """How far every method is from the one compared with, in pairs of equal seeds."""
    figure, axes = _figure(comparison, 3.0)
    scale, _ = _unit(comparison)
    against, grid = comparison.against, comparison.grid
    grid = grid[_spread(len(grid), _POINTS)]
    assert against is not None
    for slot, group in enumerate(comparison.groups):
        seeds = [seed for seed in group.seeds if seed in against.seeds]
        if group is against or not seeds:
            continue
        ours, theirs = (g.values(grid, seeds) for g in (group, against))
        intervals = _intervals(ours - theirs)
        _band(axes, grid / scale, intervals, slot, group.name, 100)
        ends = 100 * (ours - theirs)[:, -1]
        reach = (grid[-1] - grid[0]) / scale
        beside = 0.04 * reach * slot / len(comparison.groups)  # dots do not hide each other
        right = grid[-1] / scale + beside + _aside(slot, grid / scale)
        dots = {"ls": "", "ms": 3.5, "alpha": 0.7, "clip_on": False, **_look(slot)}
        axes.plot(np.full(len(ends), right), ends, **dots)
    axes.axhline(0, color=_INK, lw=1)
    axes.set_ylabel("Difference in mIoU, points")
    axes.set_title(f"Against {against.name}", fontsize=9, loc="left")
    _legend(figure, axes)
    return figure


def penalties(comparison: Comparison) -> "Figure":
    """At what share of the budgets a row beats a column; below, how often a column is beaten."""
    from matplotlib.figure import Figure

    names = [group.name for group in comparison.groups]
    matrix = comparison.penalties
    known = np.isfinite(matrix)
    beaten = [m[k].mean() if k.any() else np.nan for m, k in zip(matrix.T, known.T, strict=True)]
    shown = np.vstack([matrix, beaten])
    side = 0.52 * len(names) + 2.2
    figure = Figure(figsize=(max(side + 0.8, 4.4), max(side, 3.0)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(shown):
        text = "" if np.isnan(value) else f"{value:.2f}"
        color = "white" if value > 0.6 else _INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names) + 1), [*names, "mean: lower is better"])
    axes.axhline(len(names) - 0.5, color="white", lw=4)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    count = len(comparison.budgets)
    budgets = "1 budget" if count == 1 else f"{count} budgets"
    figure.suptitle(f"Share of {budgets} at which a row beats a column", fontsize=9)
    return figure


def ranks(comparison: Comparison, values: NDArray[np.float64]) -> "Figure":
    """Rank of every method when one seed is left out: lines that cross say ranks are not firm.

    Args:
        comparison: The comparison.
        values: Its ranks, (1 + seeds, groups).
    """
    from matplotlib.figure import Figure

    count = len(comparison.groups)
    figure = Figure(figsize=(_WIDTH, max(0.34 * count + 1.2, 2.4)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(values))
    for slot, group in enumerate(comparison.groups):
        axes.plot(places, values[:, slot], lw=1.8, ms=6, **_look(slot))
        # methods of equal rank are written one below the other
        same = [s for s in range(slot) if values[-1, s] == values[-1, slot]]
        height = values[-1, slot] + 0.42 * len(same)
        axes.annotate(
            group.name, (len(values) - 1, height), xytext=(10, 0), textcoords="offset points",
            va="center", color=_color(slot),
        )  # fmt: skip
    axes.set_xticks(places, comparison.left_out)
    axes.set_yticks(range(1, count + 1))
    axes.set_ylim(count + 0.6, 0.5)
    axes.set_xlabel("Seed left out")
    axes.set_ylabel(f"Rank by {_lower(MEASURE_NAMES[comparison.measure])}")
    axes.grid(axis="x", visible=False)
    return figure


def axis_label(comparison: Comparison) -> str:
    """Title of the axis of costs."""
    _, unit = _unit(comparison)
    return f"{AXES[comparison.axis]}{f', {unit}' if unit else ''}"


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]


def _unit(comparison: Comparison) -> tuple[float, str]:
    """Length of the unit of the axis, and its name."""
    if comparison.axis != "seconds":
        return 1.0, ""
    length, name, _ = wording.time_unit(float(comparison.grid[-1]))
    return length, name


def _figure(comparison: Comparison, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    # the legend below takes its lines from the figure, not from the curves
    lines = -(-len(comparison.everyone) // _COLUMNS)
    figure = Figure(figsize=(_WIDTH, height + 0.17 * lines), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(axis_label(comparison))
    axes.xaxis.set_major_formatter(lambda value, _: wording.compact(round(value, 9)))
    if all(len(group.grid) == 1 for group in comparison.groups):  # groups stand side by side
        cost = float(comparison.grid[0]) / _unit(comparison)[0]
        axes.set_xticks([cost])
        axes.set_xlim(0.9 * cost, (1.1 + 0.01 * len(comparison.groups)) * cost)
    return figure, axes


def _intervals(values: NDArray[np.float64]) -> list[Interval]:
    """Of the columns of seeds by costs; of two seeds, which would hide all else, the mean alone."""
    found = [mean_interval(column) for column in values.T]
    if len(values) >= FEWEST_SHOWN:
        return found
    return [Interval(mean, math.nan, math.nan) for mean, _, _ in found]


def _band(
    axes: "Axes",
    x: NDArray[np.float64],
    intervals: Sequence[tuple[float, float, float]],
    slot: int,
    name: str,
    factor: float,
) -> None:
    """A mean line and the band of its interval, or an error bar where there is one cost only."""
    mean, low, high = factor * np.array(intervals).T
    color = _color(slot)
    if len(x) == 1:
        bars = None if np.isnan(low[0]) else [mean - low, high - mean]
        place = x + _aside(slot, x)
        axes.errorbar(place, mean, bars, **_look(slot), ls="", ms=6, capsize=3, label=name)
        return
    axes.fill_between(x, low, high, color=color, alpha=0.12, lw=0)
    axes.plot(x, mean, color=color, lw=1.8, ls=DASHES[slot // len(COLORS) % 3], label=name)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Positions among so many, all or as many as a figure bears, the first and the last included.

    >>> _spread(7, 3).tolist()
    [0, 3, 6]
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _aside(slot: int, grid: NDArray[np.float64]) -> float:
    """How far a group stands to the side where all have one cost only and would hide each other."""
    return float(0.01 * grid[0] * slot) if len(grid) == 1 else 0.0


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        columns = min(_COLUMNS, len(handles))
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8)


def _look(slot: int) -> dict[str, Any]:
    return {"color": _color(slot), "marker": _marker(slot)}


def _color(slot: int) -> str:
    return COLORS[slot % len(COLORS)]


def _marker(slot: int) -> str:
    return MARKERS[slot % len(MARKERS)]
