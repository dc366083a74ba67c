"""What several runs of each method show together: numbers, without words or pictures."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.report import statistics
from alseg.report.groups import Group, check_comparable, find_group
from alseg.report.statistics import Interval

#: What a pair of runs is compared by: the mean of the curve over the budget, or its end.
MEASURES = ("area", "final")
#: Pairs of groups that are tested: each against one, or all of them.
FAMILIES = ("against", "all")
#: Shares of full supervision whose price is asked for.
TARGETS = (0.9, 0.95)
#: Differences of mIoU below this are ties: half of the last digit shown.
TIE = 0.0005
#: A class is rare that has less than this part of an equal share of what was answered.
RARE = 0.2
#: Means over resampled seeds behind an interval of the bootstrap.
DRAWS = 2000


@dataclass(frozen=True)
class Reach:
    """What it costs a group to reach a share of full supervision.

    Attributes:
        share: Of the mIoU of full supervision, 0..1.
        cost: Where the group's mean curve gets there, and the interval of the bootstrap over seeds;
            infinite where a curve never gets there, NaN ends for fewer than two seeds.
        at_start: Whether the first round was there already, so that less may have been enough.
        last: The largest cost at which the group has a value.
    """

    share: float
    cost: Interval
    at_start: bool
    last: float


@dataclass(frozen=True)
class Contest:
    """One group against another, in pairs of runs with the same seed.

    Attributes:
        ours: Name of the group.
        theirs: Name of the other.
        seeds: Seeds that both have.
        differences: Of the measure, ours minus theirs, one per seed, in shares of 1.
        p_t: Of the paired t test; NaN if it cannot be made.
        p_flip: Of the exact sign-flip test; NaN for fewer than two pairs, or too many to count.
        holm_t: The former, adjusted for the family of contests.
        holm_flip: The latter, adjusted likewise.
    """

    ours: str
    theirs: str
    seeds: Sequence[int]
    differences: NDArray[np.float64]
    p_t: float
    p_flip: float
    holm_t: float = np.nan
    holm_flip: float = np.nan

    @property
    def score(self) -> tuple[int, int, int]:
        """Wins, ties and losses."""
        wins = int((self.differences >= TIE).sum())
        losses = int((self.differences <= -TIE).sum())
        return wins, len(self.seeds) - wins - losses, losses


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on one axis of cost.

    Attributes:
        axis: Column of ``rounds.csv`` that says what was spent.
        groups: All but full supervision, the one they are compared with first, then by the area.
        against: The group the others are compared with; None for none.
        full: Full supervision; None if it was not run.
        grid: Costs at which all trials of all groups have a value, (G,).
        measure: One of `MEASURES`: what is tested.
        family: One of `FAMILIES`: which pairs are tested.
        rare: Names of the rare classes.
        excused: Full names of options in which groups differ because they are allowed to.
    """

    axis: str
    groups: Sequence[Group]
    against: Group | None
    full: Group | None
    grid: NDArray[np.float64]
    measure: str
    family: str
    rare: Sequence[str]
    excused: Sequence[str]

    @property
    def everyone(self) -> list[Group]:
        """All groups, full supervision last."""
        return [*self.groups, *([] if self.full is None else [self.full])]

    @property
    def level(self) -> float | None:
        """Mean mIoU of full supervision after its runs' last rounds; None without it."""
        return None if self.full is None else float(np.mean(self.full_values))

    @property
    def full_values(self) -> NDArray[np.float64]:
        """The mIoU of every run of full supervision after its last round."""
        trials = [] if self.full is None else self.full.trials
        return np.array([trial.miou[-1] for trial in trials])

    def measured(self, group: Group, measure: str) -> NDArray[np.float64]:
        """A measure of every trial of a group, (seeds,)."""
        values = group.values(self.grid)
        if measure == "final":
            return values[:, -1]
        return np.array([statistics.mean_height(self.grid, row) for row in values])

    @cached_property
    def contests(self) -> list[Contest]:
        """The tests of the family, with p-values adjusted over it."""
        if self.family == "all":
            pairs = list(combinations(self.groups, 2))
        else:
            others = [group for group in self.groups if group is not self.against]
            pairs = [(group, self.against) for group in others if self.against is not None]
        found = [self.contest(ours, theirs) for ours, theirs in pairs]
        holm_t = statistics.holm([contest.p_t for contest in found])
        holm_flip = statistics.holm([contest.p_flip for contest in found])
        return [
            Contest(c.ours, c.theirs, c.seeds, c.differences, c.p_t, c.p_flip, float(t), float(f))
            for c, t, f in zip(found, holm_t, holm_flip, strict=True)
        ]

    def contest(self, ours: Group, theirs: Group) -> Contest:
        """Two groups in pairs of equal seeds, without adjustment; one pair is no test."""
        seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
        one = dict(zip(ours.seeds, self.measured(ours, self.measure), strict=True))
        other = dict(zip(theirs.seeds, self.measured(theirs, self.measure), strict=True))
        differences = np.array([one[seed] - other[seed] for seed in seeds], dtype=np.float64)
        tested = 1 < len(seeds) <= statistics.MOST_PAIRS
        flip = statistics.sign_flip(differences) if tested else np.nan
        t = statistics.paired_t(differences)
        return Contest(ours.name, theirs.name, seeds, differences, t, flip)

    def reaches(self, group: Group) -> list[Reach]:
        """What it costs a group to reach each of `TARGETS`; empty without full supervision."""
        if self.level is None:
            return []
        values, grid = group.values(group.grid), group.grid
        generator = np.random.default_rng(0)
        curves = statistics.resampled_means(values, DRAWS, generator)
        levels = statistics.resampled_means(self.full_values, DRAWS, generator)
        found = []
        for share in TARGETS:
            mean = values.mean(axis=0)
            cost = statistics.first_reached(grid, mean, share * self.level)
            low = high = float("nan")
            if len(values) > 1:
                pairs = zip(curves, levels, strict=True)
                samples = [statistics.first_reached(grid, c, share * top) for c, top in pairs]
                low, high = statistics.percentile_interval(samples)
            at_start = bool(mean[0] >= share * self.level)
            found.append(Reach(share, Interval(cost, low, high), at_start, float(grid[-1])))
        return found

    def class_values(self, group: Group, name: str) -> NDArray[np.float64]:
        """IoU of a class at the end of the shared costs, for every trial; NaN where unknown."""
        return np.array([trial.class_at(name, float(self.grid[-1])) for trial in group.trials])

    @cached_property
    def common_seeds(self) -> list[int]:
        """Seeds that all groups have."""
        first, *others = self.groups
        return [seed for seed in first.seeds if all(seed in group.seeds for group in others)]

    @cached_property
    def budgets(self) -> NDArray[np.float64]:
        """Where the reference group's rounds end within the shared costs, and the last of these."""
        group = self.against or self.groups[0]
        length = min(len(trial.costs) for trial in group.trials)
        rounds = np.mean([trial.costs[:length] for trial in group.trials], axis=0)
        inside = rounds[(rounds >= self.grid[0]) & (rounds < self.grid[-1])]
        return np.append(inside, self.grid[-1])

    @cached_property
    def penalties(self) -> NDArray[np.float64]:
        """Share of the budgets at which a row's group beats a column's, (groups, groups).

        NaN on the diagonal, and where two groups have fewer than two seeds in common.
        """
        matrix = np.full((len(self.groups), len(self.groups)), np.nan)
        for i, ours in enumerate(self.groups):
            for j, theirs in enumerate(self.groups):
                seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
                if i != j and len(seeds) > 1:
                    pair = [group.values(self.budgets, seeds) for group in (ours, theirs)]
                    matrix[i, j] = statistics.penalty(pair[0], pair[1])
        return matrix

    @cached_property
    def ranks(self) -> NDArray[np.float64] | None:
        """Ranks by the measure, one row for each of `left_out`; None for fewer than two seeds."""
        seeds = self.common_seeds
        if len(seeds) < 2 or len(self.groups) < 2:
            return None
        rows = []
        for group in self.groups:
            by_seed = dict(zip(group.seeds, self.measured(group, self.measure), strict=True))
            rows.append([by_seed[seed] for seed in seeds])
        values = np.array(rows)
        whole = statistics.ranks(values.mean(axis=1))
        return np.vstack([whole, statistics.ranks_without_each(values)])

    @property
    def left_out(self) -> list[str]:
        """What each row of `ranks` leaves out: nothing, then each of the common seeds."""
        return ["none", *map(str, self.common_seeds)]


def compare(
    groups: Sequence[Group],
    axis: str,
    *,
    against: str | None = None,
    full: str | None = None,
    rare: Sequence[str] | None = None,
    measure: str = "area",
    family: str = "against",
    allowed: Collection[str] = (),
) -> Comparison:
    """Put groups side by side.

    Args:
        groups: From `alseg.report.groups.read_groups` with the same axis.
        axis: What was spent.
        against: Group or method all others are compared with; None for none.
        full: Group or method of full supervision; None for none.
        rare: Names of the rare classes; None for those with less than `RARE` of an equal share of
            what was answered under full supervision, or else in the group compared with.
        measure: One of `MEASURES`.
        family: One of `FAMILIES`.
        allowed: Options that may differ, see `alseg.report.groups.check_comparable`.

    Raises:
        UserError: For names that are not there, groups that cannot be compared, or costs that do
            not overlap.
    """
    for option, given, able in (("measure", measure, MEASURES), ("family", family, FAMILIES)):
        if given not in able:
            raise unknown_name(option, given, able)
    whole = None if full is None else find_group(groups, full, "full")
    rest = [group for group in groups if group is not whole]
    if not rest:
        raise UserError("all runs are of full supervision; name runs to compare with it.")
    base = None if against is None else find_group(rest, against, "against")
    excused = check_comparable(groups, whole, allowed)
    grid = _common_grid(rest)
    known = [*rest[0].trials[0].ious]
    unknown = next((name for name in rare or () if name not in known), None)
    if unknown is not None:
        raise unknown_name("class in rare=", unknown, known)
    if rare is None:
        sources = [group for group in (whole, base) if group is not None and group.shares]
        rare = rare_classes(sources[0].shares) if sources else []
    found = Comparison(axis, rest, base, whole, grid, measure, family, rare, excused)
    height = {group.name: float(found.measured(group, "area").mean()) for group in rest}
    ordered = sorted(rest, key=lambda group: (group is not base, -height[group.name]))
    return Comparison(axis, ordered, base, whole, grid, measure, family, rare, excused)


def rare_classes(shares: Mapping[str, float]) -> list[str]:
    """Names of the classes with less than `RARE` of an equal share, the rarest first.

    >>> rare_classes({"road": 0.9, "car": 0.08, "sign": 0.02})
    ['sign']
    """
    bound = RARE / len(shares)
    return sorted((name for name in shares if shares[name] < bound), key=lambda name: shares[name])


def _common_grid(groups: Sequence[Group]) -> NDArray[np.float64]:
    trials = [trial for group in groups for trial in group.trials]
    latest = max(trials, key=lambda trial: float(trial.costs[0]))
    shortest = min(trials, key=lambda trial: float(trial.costs[-1]))
    if latest.costs[0] > shortest.costs[-1]:
        raise UserError(
            f"the runs have no cost in common: {latest.folder} begins at {latest.costs[0]:g}, "
            f"{shortest.folder} ends at {shortest.costs[-1]:g}; leave one of them out, or let its "
            f"budget go on, since nothing is guessed beyond a curve's ends."
        )
    return statistics.shared_grid([trial.costs for trial in trials])
