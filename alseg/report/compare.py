"""What several runs say together: groups of seeds, curves at equal cost, tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.report.folder import Run
from alseg.report.statistics import (
    differing_options,
    flat_options,
    group_runs,
    holm,
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
#: Draws of a bootstrap interval.
RESAMPLES = 1000


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
    for _ in range(RESAMPLES):
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
