"""What several runs say together: curves of groups of seeds, tables, tests, words for a paper."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.report.chart import Chart, Series, layout
from alseg.report.curves import COLORS
from alseg.report.folder import Run
from alseg.report.statistics import (
    differing_options,
    flat_options,
    group_runs,
    holm,
    least_p_words,
    mean_height,
    on_grid,
    paired_t,
    shared_grid,
    sign_flip,
)

#: Columns of ``rounds.csv`` that curves can be drawn against.
AXES = ("clicks", "seconds", "pixels", "units")
#: Options that may differ between seeds of one method: where runs lie, and how they were computed.
PLACES = (
    *(
        "seed",
        "rounds",
        "run_dir",
        "cache",
        "workers",
        "eval_batch_size",
        "keep_rounds",
        "pictures",
    ),
    *("logger", "trainer", "plugins"),
)
#: Options that may differ between methods as well: those a method sets by itself, and what a round
#: may spend, since curves are compared at equal cost.
FREE = (
    *PLACES,
    *("method", "regions", "augment", "budget.amount", "budget.axis", "budget.rule"),
)
#: Shares of full supervision whose costs are told.
SHARES = (0.9, 0.95)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Group:
    """Runs that differ by nothing but their seed.

    Attributes:
        name: What tables and legends call it.
        seeds: Seed of each run, ascending, (S,).
        costs: Cost of each round on the axis, one array (R,) per run.
        miou: mIoU of each round, 0..1, one array (R,) per run.
        rare: Mean IoU of the rare classes in the last round, (S,), NaN where unknown.
    """

    name: str
    seeds: tuple[int, ...]
    costs: tuple[NDArray[np.float64], ...]
    miou: tuple[NDArray[np.float64], ...]
    rare: NDArray[np.float64]

    @property
    def last(self) -> NDArray[np.float64]:
        """MIoU of the last round of each run, (S,)."""
        return np.array([values[-1] for values in self.miou])

    def on(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """The curves at some costs, (S, G)."""
        pairs = zip(self.costs, self.miou, strict=True)
        return np.stack([on_grid(costs, values, grid) for costs, values in pairs])


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        axis: Cost axis.
        grid: Costs at which curves are compared, (G,).
        groups: The methods, the reference first.
        full: mIoU of full supervision, its mean over seeds; None without such a run.
        rows: One row of the table per group.
    """

    axis: str
    grid: NDArray[np.float64]
    groups: tuple[Group, ...]
    full: float | None
    rows: tuple[dict[str, Any], ...]


def compare(
    runs: Sequence[Run], against: str, axis: str = "clicks", full: str | None = None
) -> Comparison:
    """Compare methods over seeds, at equal cost.

    Runs are grouped by everything but the seed. Curves are compared where all of them have a value,
    between rounds on straight lines, never beyond their ends. Differences from the reference are
    paired by seed.

    Args:
        runs: Finished runs, in any order.
        against: Name of the reference: a method, or the name of a group.
        axis: One of `AXES`.
        full: The method whose runs are full supervision; they are no curve, but a height.

    Raises:
        UserError: For runs without a common ground (data, budget, prices, network), a reference
            that is not there, seeds given twice, or runs without a measurement.
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    if len(runs) < 2:
        raise UserError("give at least two runs to compare.")
    _check_common(runs)
    rare = _rare_classes(runs)
    groups = _groups(runs, axis, rare)
    whole = [group for group in groups if group.name.split()[0] == full]
    methods = [group for group in groups if not any(group is other for other in whole)]
    names = [group.name for group in methods]
    found = [g for g in methods if g.name == against] or [
        g for g in methods if g.name.split()[0] == against
    ]
    if not found:
        raise unknown_name("run to compare against", against, names)
    reference = found[0]
    ordered = (reference, *(group for group in methods if group is not reference))
    grid = shared_grid([costs for group in ordered for costs in group.costs])
    height = float(np.mean([g.last.mean() for g in whole])) if whole else None
    rows = _rows(ordered, grid, height)
    return Comparison(axis, grid, ordered, height, rows)


def _check_common(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.config:
            raise UserError(f"{run.path} has no config.yaml, which says what was compared.")
    first = runs[0]
    for run in runs[1:]:
        differing = differing_options(first.config, run.config, FREE)
        if differing:
            shown = "; ".join(f"{name}: {a!r} and {b!r}" for name, (a, b) in differing.items())
            raise UserError(
                f"{first.path} and {run.path} cannot be compared, because they differ in more than "
                f"method and seed ({shown}); give runs on the same data, at the same prices, with "
                f"the same network."
            )


def _groups(runs: Sequence[Run], axis: str, rare: Sequence[str]) -> list[Group]:
    configs = [run.config for run in runs]
    members = group_runs(configs, but=PLACES)
    groups = []
    for name, chosen in zip(_names(configs, members), members, strict=True):
        ordered = sorted(chosen, key=lambda index: int(runs[index].option("seed") or 0))
        seeds = tuple(int(runs[index].option("seed") or 0) for index in ordered)
        if len(set(seeds)) < len(seeds):
            raise UserError(
                f"two runs of {name} have the seed {max(seeds, key=seeds.count)}; leave one out."
            )
        costs, miou, low = [], [], []
        for index in ordered:
            table = runs[index].table
            known = np.isfinite(table["miou"])
            if not known.any():
                raise UserError(
                    f"{runs[index].path} measured no mIoU; it has no validation images."
                )
            costs.append(table[axis][known])
            miou.append(table["miou"][known])
            ious = [runs[index].ious[c][-1] for c in rare if c in runs[index].ious]
            low.append(float(np.mean(ious)) if ious else np.nan)
        groups.append(Group(name, seeds, tuple(costs), tuple(miou), np.array(low)))
    return groups


def _names(configs: Sequence[Mapping[str, Any]], members: Sequence[Sequence[int]]) -> list[str]:
    """Name of each group: its method, and the options in which groups of one method differ."""
    flat = [flat_options(configs[group[0]]) for group in members]
    methods = [str(options.get("method.name", options.get("method", "run"))) for options in flat]
    names = []
    for index, (method, options) in enumerate(zip(methods, flat, strict=True)):
        same = [flat[i] for i, other in enumerate(methods) if other == method and i != index]
        differing = {name for other in same for name in differing_options(options, other, PLACES)}
        said = [f"{name.removeprefix('method.')}={options.get(name)}" for name in sorted(differing)]
        names.append(" ".join([method, *said]))
    return names


def _rare_classes(runs: Sequence[Run], share: float = 0.3) -> list[str]:
    """The classes that are hardest for all runs together: the lowest last IoU, a share of them."""
    names = list(runs[0].ious)
    heights = {
        name: np.nanmean([run.ious[name][-1] for run in runs if name in run.ious] or [np.nan])
        for name in names
    }
    ranked = sorted((name for name in names if np.isfinite(heights[name])), key=heights.__getitem__)
    return ranked[: max(1, round(share * len(ranked)))] if ranked else []


def cost_to_reach(grid: NDArray[np.float64], curve: NDArray[np.float64], height: float) -> float:
    """Smallest cost at which a curve on straight lines reaches a height; NaN if it never does.

    >>> cost_to_reach(np.array([0.0, 10.0]), np.array([0.2, 0.4]), 0.3)
    5.0
    """
    for place in range(len(curve)):
        if curve[place] >= height:
            if place == 0:
                return float(grid[0])
            low, high = curve[place - 1], curve[place]
            share = (height - low) / (high - low)
            return float(grid[place - 1] + share * (grid[place] - grid[place - 1]))
    return float("nan")


def bootstrap(
    curves: NDArray[np.float64], grid: NDArray[np.float64], height: float, seed: int = 0
) -> tuple[float, float]:
    """Interval of the cost at which the mean of curves reaches a height, seeds drawn anew.

    Args:
        curves: (S, G).
        grid: Costs, (G,).
        height: See `cost_to_reach`.
        seed: Of the draws.

    Returns:
        The 2.5th and the 97.5th percentile over 1000 draws; infinity where it is not reached, NaN
        with one seed.
    """
    if len(curves) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    costs = []
    for _ in range(_RESAMPLES):
        drawn = curves[rng.integers(len(curves), size=len(curves))].mean(axis=0)
        cost = cost_to_reach(grid, drawn, height)
        costs.append(np.inf if np.isnan(cost) else cost)
    low, high = np.percentile(costs, [2.5, 97.5], method="nearest")
    return float(low), float(high)


def _rows(
    groups: Sequence[Group], grid: NDArray[np.float64], full: float | None
) -> tuple[dict[str, Any], ...]:
    reference = groups[0]
    rows: list[dict[str, Any]] = []
    for group in groups:
        curves = group.on(grid)
        heights = np.array([mean_height(grid, curve) for curve in curves])
        row: dict[str, Any] = {
            "method": group.name,
            "seeds": len(group.seeds),
            "miou": float(group.last.mean()),
            "miou_sd": _sd(group.last),
            "area": float(heights.mean()),
            "area_sd": _sd(heights),
            "rare_iou": float(np.mean(group.rare)),
        }
        if full is not None:
            row["share_of_full"] = row["miou"] / full
            for share in SHARES:
                key = f"cost_{share:.0%}".removesuffix("%")
                row[key] = cost_to_reach(grid, curves.mean(axis=0), share * full)
                row[f"{key}_low"], row[f"{key}_high"] = bootstrap(curves, grid, share * full)
        shared = [seed for seed in group.seeds if seed in reference.seeds]
        at = [group.seeds.index(seed) for seed in shared]
        base = [reference.seeds.index(seed) for seed in shared]
        reference_heights = [mean_height(grid, curve) for curve in reference.on(grid)[base]]
        difference = heights[at] - np.array(reference_heights)
        if group is not reference:
            row |= {
                "pairs": len(shared),
                "difference": float(difference.mean()) if shared else np.nan,
                "wins": int((difference > 0).sum()),
                "ties": int((difference == 0).sum()),
                "losses": int((difference < 0).sum()),
                "p_t": paired_t(difference),
                "p_sign_flip": sign_flip(difference),
            }
        rows.append(row)
    for test in ("p_t", "p_sign_flip"):
        adjusted = holm([row[test] for row in rows[1:]])
        for row, value in zip(rows[1:], adjusted, strict=True):
            row[f"{test}_holm"] = float(value)
    return tuple(rows)


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


# Tables and words


def table_csv(found: Comparison) -> str:
    """All numbers, one row per method, in full."""
    columns = list(dict.fromkeys(name for row in found.rows for name in row))
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    table.writeheader()
    for row in found.rows:
        table.writerow({k: _full(v) for k, v in row.items()})
    return buffer.getvalue()


def _full(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.6g}"


def shown_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows as a person reads them: per cent, mean ± standard deviation."""
    head = ["Method", "Seeds", "Last mIoU, %", "Mean over the budget, %", "Rare classes, %"]
    if found.full is not None:
        head += ["Share of full, %", *(f"{found.axis} to {share:.0%} of full" for share in SHARES)]
    head += ["Difference, points", "Wins/ties/losses", "p (sign flip, Holm)"]
    rows = []
    for row in found.rows:
        cells = [row["method"], str(row["seeds"]), _with_sd(row["miou"], row["miou_sd"])]
        cells += [_with_sd(row["area"], row["area_sd"]), _number(100 * row["rare_iou"])]
        if found.full is not None:
            cells.append(_number(100 * row["share_of_full"]))
            for share in SHARES:
                key = f"cost_{share:.0%}".removesuffix("%")
                cells.append(_interval(row[key], row[f"{key}_low"], row[f"{key}_high"]))
        if "difference" in row:
            cells += [
                f"{100 * row['difference']:+.1f}" if row["pairs"] else "–",
                f"{row['wins']}/{row['ties']}/{row['losses']}",
                _number(row["p_sign_flip_holm"], 3),
            ]
        else:
            cells += ["reference", "", ""]
        rows.append(cells)
    return head, rows


def _with_sd(mean: float, sd: float) -> str:
    return f"{100 * mean:.1f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.1f}")


def _number(value: float, digits: int = 1) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _interval(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "not reached"
    said = f"{value:.0f}"
    if np.isnan(low):
        return said
    return f"{said} ({low:.0f} to {'…' if np.isinf(high) else f'{high:.0f}'})"


def table_markdown(found: Comparison) -> str:
    """The table for a README."""
    head, rows = shown_table(found)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def table_latex(found: Comparison) -> str:
    """The table for a paper, with booktabs."""
    head, rows = shown_table(found)

    def line(cells: Sequence[str]) -> str:
        swaps = (("\\", r"\textbackslash{}"), ("%", r"\%"), ("_", r"\_"), ("±", r"$\pm$"))
        texts = []
        for cell in cells:
            for old, new in (*swaps, ("–", "--"), ("…", r"\dots")):
                cell = cell.replace(old, new)
            texts.append(cell)
        return " & ".join(texts) + r" \\"

    body = [line(head), r"\midrule", *map(line, rows)]
    return "\n".join(
        [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", *body, r"\bottomrule",
         r"\end{tabular}", ""]
    )  # fmt: skip


def words(found: Comparison) -> str:
    """How it was compared, as a paragraph."""
    reference = found.groups[0]
    pairs = [row["pairs"] for row in found.rows[1:]]
    least = min(pairs, default=0)
    full = ""
    if found.full is not None:
        full = (
            f" Full supervision reached {100 * found.full:.1f} % mIoU; costs to reach 90 and 95 % "
            f"of it are those of the mean curve, with 95 % intervals from {_RESAMPLES} bootstrap "
            f"draws of the seeds."
        )
    return (
        f"Runs were grouped by everything but their seed. Curves were compared from "
        f"{found.grid[0]:g} to {found.grid[-1]:g} {found.axis}, the costs that all of them have, "
        f"on straight lines between rounds. The mean over the budget is the area under a curve "
        f"divided by its width; numbers are means ± standard deviations over seeds. Differences "
        f"are from {reference.name}, paired by seed, tested by an exact sign-flip test and by a "
        f"paired t test, two-sided, both adjusted by Holm over the methods. "
        f"{least_p_words(least)}{full}\n"
    )


def penalties(found: Comparison) -> NDArray[np.float64]:
    """How often one method is beaten by another, (M, M).

    Entry (i, j) is the share of the compared costs, each the cost of a round, at which j is above i
    by a paired t test over their common seeds (p < 0.05), as in the penalty matrix of Ash et al.
    (ICLR 2020). NaN with fewer than two common seeds.
    """
    curves = [group.on(found.grid) for group in found.groups]
    matrix = np.zeros((len(curves), len(curves)))
    for i, one in enumerate(found.groups):
        for j, other in enumerate(found.groups):
            shared = [seed for seed in one.seeds if seed in other.seeds]
            if i == j or len(shared) < 2:
                matrix[i, j] = 0.0 if i == j else np.nan
                continue
            rows = [one.seeds.index(seed) for seed in shared]
            others = [other.seeds.index(seed) for seed in shared]
            gaps = curves[j][others] - curves[i][rows]
            beaten = [gap.mean() > 0 and paired_t(gap) < 0.05 for gap in gaps.T]
            matrix[i, j] = float(np.mean(beaten))
    return matrix


def ranks_without(found: Comparison) -> dict[str, list[int]]:
    """Ranks of the methods by their mean over the budget, 1 = best, leaving out each seed.

    Returns:
        By what is left out (``none`` first, then seeds that every method has and that are not its
        only one): a rank per method.
    """
    common = set.intersection(*(set(group.seeds) for group in found.groups))
    cases: list[int | None] = [None]
    if all(len(group.seeds) > 1 for group in found.groups):
        cases += sorted(common)
    ranks = {}
    for left_out in cases:
        heights = []
        for group in found.groups:
            kept = [row for row, seed in enumerate(group.seeds) if seed != left_out]
            curve = group.on(found.grid)[kept].mean(axis=0)
            heights.append(mean_height(found.grid, curve))
        order = np.argsort(np.argsort(-np.array(heights), kind="stable"), kind="stable")
        ranks["none" if left_out is None else f"seed {left_out}"] = [int(r) + 1 for r in order]
    return ranks


def pairs_csv(found: Comparison) -> str:
    """The penalty matrix, and the ranks that leave out a seed."""
    names = [group.name for group in found.groups]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["method", *(f"beaten by {name}" for name in names)])
    for name, row in zip(names, penalties(found), strict=True):
        table.writerow([name, *(_full(float(value)) for value in row)])
    table.writerow([])
    table.writerow(["rank without", *names])
    for left_out, ranks in ranks_without(found).items():
        table.writerow([left_out, *ranks])
    return buffer.getvalue()


def mean_chart(found: Comparison) -> Chart:
    """The mean curves, for a page."""
    lines = []
    for slot, group in enumerate(found.groups):
        mean = 100 * group.on(found.grid).mean(axis=0)
        titles = [
            f"{group.name}: {value:.1f} % at {cost:g} {found.axis}"
            for cost, value in zip(found.grid, mean, strict=True)
        ]
        lines.append(Series(group.name, slot, found.grid, mean, titles, dash=slot // COLORS % 3))
    return layout(found.axis, found.axis.capitalize(), "mIoU, %", lines)


def draw(found: Comparison, out: Path) -> list[Path]:
    """Draw mean curves, the range and the dots of their seeds, and the gap to the reference.

    Args:
        found: The comparison.
        out: Folder.

    Returns:
        The files.

    Raises:
        UserError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UserError(
            "curves are drawn by matplotlib; pip install 'alseg[compare]', or give plots=false."
        ) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "alseg"  # equal numbers give equal files
    figure, (axes, below) = plt.subplots(
        2, figsize=(6.4, 6.4), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    reference = found.groups[0].on(found.grid).mean(axis=0)
    for number, group in enumerate(found.groups):
        color, curves = f"C{number % 10}", group.on(found.grid)
        axes.plot(found.grid, 100 * curves.mean(axis=0), color=color, label=group.name)
        if len(curves) > 1:
            low, high = 100 * curves.min(axis=0), 100 * curves.max(axis=0)
            axes.fill_between(found.grid, low, high, color=color, alpha=0.15, linewidth=0)
        gap = 100 * (curves.mean(axis=0) - reference)
        below.plot(found.grid, gap, color=color)
        for costs, values in zip(group.costs, group.miou, strict=True):
            inside = (costs >= found.grid[0]) & (costs <= found.grid[-1])
            axes.plot(costs[inside], 100 * values[inside], ".", color=color, markersize=4)
    if found.full is not None:
        axes.axhline(100 * found.full, color="0.4", linestyle="--", label="full supervision")
    below.set_xlabel(found.axis)
    below.set_ylabel(f"points above {found.groups[0].name}")
    axes.set_ylabel("mIoU, %")
    for one in (axes, below):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    axes.legend(frameon=False)
    files = [out / "curves.svg", out / "curves.pdf"]
    out.mkdir(parents=True, exist_ok=True)
    for file, meta in zip(files, ({"Date": None}, {"CreationDate": None}), strict=True):
        figure.savefig(file, metadata=meta)
    plt.close(figure)
    return files
