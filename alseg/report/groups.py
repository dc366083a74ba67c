"""Runs that differ in their seed alone, as groups that may be compared with each other."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.files import read_json
from alseg.report.curves import AXES
from alseg.report.folder import Run, read_run
from alseg.report.statistics import differing_options, group_runs, on_grid, shared_grid

#: What two runs must share, as first parts of the names of options: the images and their masks,
#: and the network. It holds for full supervision, too.
SAME_TASK = ("data", "train", "val", "train_masks", "val_masks", "masks", "network")
#: What all others must share besides: how much may be spent, and what an answer costs.
SAME_PRICES = ("budget", "oracle")
#: Options that may be allowed to differ in earnest: curves are compared at equal costs, so that it
#: matters less how these were cut into rounds.
SPENDING = ("budget.amount", "budget.axis", "budget.rule")


@dataclass(frozen=True)
class Trial:
    """The learning curve of one run.

    Attributes:
        folder: Name of the run folder, without the path to it.
        seed: Seed of the run.
        costs: Spent until each measured round, (R,), strictly increasing.
        miou: Measured then, (R,), 0..1.
        ious: IoU of each class, (R,), NaN where it was not measured.
    """

    folder: str
    seed: int
    costs: NDArray[np.float64]
    miou: NDArray[np.float64]
    ious: Mapping[str, NDArray[np.float64]]

    def class_at(self, name: str, cost: float) -> float:
        """IoU of a class at a cost; NaN where it was not measured around that cost."""
        values = self.ious.get(name, np.full(self.costs.shape, np.nan))
        known = np.isfinite(values)
        costs = self.costs[known]
        if not costs.size or not costs[0] <= cost <= costs[-1]:
            return float("nan")
        return float(on_grid(costs, values[known], [cost])[0])


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: The method, and what sets it apart from other groups of the same method.
        method: Name of the method.
        identity: Options of the first run by their full names.
        trials: One per seed, in the order of the seeds; at least one.
        shares: Share of each class among what was answered, by name; empty if not known.
    """

    name: str
    method: str
    identity: Mapping[str, Any]
    trials: Sequence[Trial]
    shares: Mapping[str, float]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trials."""
        return [trial.seed for trial in self.trials]

    @cached_property
    def grid(self) -> NDArray[np.float64]:
        """Costs at which all trials of the group have a value."""
        return shared_grid([trial.costs for trial in self.trials])

    def values(
        self, grid: NDArray[np.float64], seeds: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """The mIoU of every trial at given costs, (seeds, costs).

        Args:
            grid: Costs within the range of all trials.
            seeds: Which trials, in this order; None for all.
        """
        wanted = self.seeds if seeds is None else seeds
        by_seed = {trial.seed: trial for trial in self.trials}
        return np.stack([on_grid(by_seed[s].costs, by_seed[s].miou, grid) for s in wanted])


def read_groups(folders: Sequence[Path], axis: str) -> list[Group]:
    """Read run folders and group them by everything but the seed.

    Args:
        folders: The run folders.
        axis: Column of ``rounds.csv`` that says what was spent.

    Raises:
        UserError: If there is none, a folder is no run folder or is named twice, two runs have one
            identity and one seed, or a run has no curve on the axis.
    """
    if not folders:
        raise UserError("no run folder is given; write python -m alseg.compare RUN_DIR RUN_DIR.")
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    twice = [path for path, n in Counter(p.resolve() for p in folders).items() if n > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice; name each run once.")
    runs = [read_run(folder) for folder in folders]
    identities = [_identity(folder) for folder in folders]
    members = group_runs(identities)
    for group in members:
        by_seed: dict[int, Path] = {}
        for index in group:
            seed = int(identities[index]["seed"])
            if seed in by_seed:
                raise UserError(
                    f"{by_seed[seed]} and {folders[index]} are the same run, with seed {seed}; "
                    f"name one of them."
                )
            by_seed[seed] = folders[index]
    firsts = [identities[group[0]] for group in members]
    groups = []
    for name, group in zip(group_names(firsts), members, strict=True):
        ordered = sorted(group, key=lambda index: identities[index]["seed"])
        trials = [_trial(runs[index], int(identities[index]["seed"]), axis) for index in ordered]
        first = identities[group[0]]
        shares = _shares([runs[index] for index in ordered])
        groups.append(Group(name, str(first["method"]), first, trials, shares))
    return groups


def find_group(groups: Sequence[Group], name: str, option: str) -> Group:
    """The group of a name, or of a method if it has one group only.

    Raises:
        UserError: If there is none, or more than one.
    """
    exact = [group for group in groups if group.name == name]
    found = exact or [group for group in groups if group.method == name]
    if not found:
        raise unknown_name(f"group in {option}=", name, [group.name for group in groups])
    if len(found) > 1:
        names = " or ".join(f"{option}={group.name!r}" for group in found)
        raise UserError(f"{option}={name} fits {len(found)} groups; give {names}.")
    return found[0]


def check_comparable(
    groups: Sequence[Group], full: Group | None, allowed: Collection[str] = ()
) -> list[str]:
    """Refuse groups whose numbers say nothing about each other.

    Args:
        groups: All groups.
        full: The one of full supervision, which may spend what it likes.
        allowed: Full names of options that may differ, with all that is under them.

    Returns:
        Full names of the options that differ because they are allowed to.

    Raises:
        UserError: If two groups differ in data, network, budget or prices, naming the difference.
    """
    first = next((group for group in groups if group is not full), groups[0])
    excused: list[str] = []
    refused: list[str] = []
    said: list[str] = []
    culprit = first
    for other in groups:
        rooms = SAME_TASK if other is full else (*SAME_TASK, *SAME_PRICES)
        for name, pair in differing_options(first.identity, other.identity).items():
            if name.split(".")[0] not in rooms:
                continue
            if not any(f"{name}.".startswith(f"{given}.") for given in allowed):
                culprit = culprit if refused else other
                refused += [] if name in refused else [name]
                said += [f"{name} ({pair[0]} and {pair[1]})"] if other is culprit else []
            elif name not in excused:
                excused.append(name)
    if refused:
        more = f" and {len(said) - 3} options more" if len(said) > 3 else ""
        mend = "leave one out"
        if set(refused) <= set(SPENDING):
            mend += f", or give allow=[{','.join(refused)}] if the difference is meant"
        raise UserError(
            f"{first.trials[0].folder} and {culprit.trials[0].folder} differ in "
            f"{', '.join(said[:3])}{more}, so that their curves cannot be compared; {mend}."
        )
    return sorted(excused)


def group_names(identities: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each group: its method, and as few options as set it apart.

    Args:
        identities: Options of one run of each group, by their full names.

    >>> one = {"method": "margin", "regions": "pixels", "method.lr": 0.1, "seed": 0}
    >>> group_names([one, one | {"regions": "grid"}, one | {"method": "random"}])
    ['margin (regions=pixels)', 'margin (regions=grid)', 'random']
    """
    names = []
    for identity in identities:
        rivals = [o for o in identities if o["method"] == identity["method"] and o is not identity]
        apart: list[str] = []
        while rivals:
            counts = Counter(n for o in rivals for n in differing_options(identity, o))
            if not counts:  # equal but for how a number is written
                break
            # the option that sets it apart from most; components, which have no dot, come first
            best = max(counts, key=lambda name: (counts[name], "." not in name, _order(name)))
            apart.append(f"{best.removeprefix('method.')}={_said(identity.get(best))}")
            rivals = [o for o in rivals if o.get(best) == identity.get(best)]
        said = f" ({', '.join(apart)})" if apart else ""
        names.append(f"{identity['method']}{said}")
    return names


def _order(name: str) -> list[int]:
    """Sorts names the other way round, so that `max` takes the first."""
    return [-ord(character) for character in name]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _identity(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no run.json, which says what decided its numbers; give run folders "
            f"with it."
        )
    identity: dict[str, Any] = read_json(path)
    if not isinstance(identity.get("method"), str) or not isinstance(identity.get("seed"), int):
        raise UserError(f"{path} names no method and seed; restore it from a copy.")
    return identity


def _shares(runs: Sequence[Run]) -> dict[str, float]:
    """Share of each class among what was answered in all runs together; empty if not known."""
    classes = runs[0].about.classes
    counts = np.zeros(len(classes))
    for run in runs:
        if len(run.about.answered) == len(classes):
            counts += run.about.answered
    return dict(zip(classes, (counts / counts.sum()).tolist(), strict=True)) if counts.any() else {}


def _trial(run: Run, seed: int, axis: str) -> Trial:
    name = run.path.resolve().name
    costs = run.table.get(axis, np.zeros(0))
    if not np.nan_to_num(costs).any() and axis != "round":
        able = [a for a in AXES if np.nan_to_num(run.table.get(a, np.zeros(0))).any()]
        raise UserError(
            f"{run.path} has spent nothing on axis={axis}; give axis={' or axis='.join(able)}."
        )
    miou = run.table["miou"]
    known = np.flatnonzero(np.isfinite(costs) & np.isfinite(miou))
    if not known.size:
        raise UserError(
            f"{run.path} has no round with a measured mIoU; leave it out, or measure it on "
            f"validation images."
        )
    if (np.diff(costs[known]) < 0).any():
        raise UserError(f"{run.path}: {axis} fall from one round to the next; restore rounds.csv.")
    last = np.append(np.diff(costs[known]) > 0, True)  # of rounds that cost nothing, the last one
    kept = known[last]
    ious = {name: values[kept] for name, values in run.ious.items()}
    return Trial(name, seed, costs[kept], miou[kept], ious)
