"""What a comparison says in words: its findings, its limits, and a paragraph on how it was made."""

from collections.abc import Sequence

from alseg.report import statistics, wording
from alseg.report.comparison import DRAWS, RARE, Comparison, Contest
from alseg.report.curves import AXES
from alseg.report.tables import cost_words, p_words

#: Seeds below which intervals of the bootstrap are too narrow to be trusted.
_FEW = 5
_MEASURED = {
    "area": "the mIoU on average over the budget (area under the curve divided by its width)",
    "final": "the mIoU at the last shared cost",
}
_SHORT = {"area": "on average over the budget", "final": "at the last shared cost"}


def findings(comparison: Comparison) -> list[str]:
    """One sentence per test: which is higher, by how much, and how sure that is."""
    return [_finding(contest, comparison.measure) for contest in comparison.contests]


def limits(comparison: Comparison) -> list[str]:
    """What a reader of the numbers has to know, as sentences."""
    pairs = sorted({len(contest.seeds) for contest in comparison.contests})
    said = [statistics.least_p_words(count) for count in pairs if count]
    if (tests := _tests(comparison)[1]) > 1:
        best = min(1.0, tests * statistics.least_p(pairs[-1]))
        said.append(f"After Holm over {tests} tests that becomes p = {best:.3g} at best.")
    said += [
        f"{contest.ours} and {contest.theirs} have no seed in common, so that they are not tested."
        for contest in comparison.contests
        if not contest.seeds
    ]
    if not comparison.contests:
        said.append(
            "Nothing is tested: it takes two groups, and against= that names one, or family=all."
        )
    trials = [(t, group) for group in comparison.groups for t in group.trials]
    end = float(comparison.grid[-1])
    longest = max(float(trial.costs[-1]) for trial, _ in trials)
    if longest > end:
        shortest, group = min(trials, key=lambda pair: float(pair[0].costs[-1]))
        said.append(
            f"The comparison ends at {cost_words(end, comparison.axis)}, where {shortest.folder} "
            f"({group.name}) ends; nothing is guessed beyond."
        )
    if comparison.full is None:
        said.append(
            "There is no run of full supervision among these, so that no share of it is shown."
        )
    fewest = min(len(group.trials) for group in comparison.everyone)
    if comparison.full is not None and 1 < fewest < _FEW:
        said.append(
            f"Intervals of the bootstrap over {fewest} seeds are too narrow; take them as a hint."
        )
    if fewest == 1:
        said.append("A group with a single run has no spread: it may as well have been lucky.")
    if not comparison.rare:
        said.append("Which classes are rare is not known from these runs; name them with rare=.")
    if comparison.excused:
        said.append(
            f"The groups differ in {', '.join(comparison.excused)}, which was allowed by hand."
        )
    return said


def methods_paragraph(comparison: Comparison) -> str:
    """How the numbers were made, for the methods section of a paper."""
    axis = AXES[comparison.axis].lower()
    counts = [len(group.trials) for group in comparison.groups]
    seeds = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    noun = "seed" if seeds == "1" else "seeds"
    start, end = (f"{cost_words(float(comparison.grid[i]), comparison.axis)}" for i in (0, -1))
    parts = [
        f"We compare {_names([group.name for group in comparison.groups])} with {seeds} {noun} "
        f"each. Runs that differ in their seed alone form a group; groups have the same images, "
        f"masks, network, budget and prices of answers"
        f"{f', but for {_names(comparison.excused)}' if comparison.excused else ''}.",
        f"The learning curves, mIoU on the validation images against {axis}, are interpolated "
        f"linearly between rounds at the costs of all rounds that every run covers ({start} to "
        f"{end}); nothing is extrapolated. Values are means ± standard deviations over seeds; "
        f"bands are 95 % intervals of Student's t distribution, where there are "
        f"{statistics.FEWEST_SHOWN} seeds or more.",
    ]
    if comparison.full is not None:
        count = len(comparison.full_values)
        level = wording.percent(comparison.level or 0.0)
        parts.append(
            f"Full supervision ({count} {'seed' if count == 1 else 'seeds'}) reaches {level} % "
            f"mIoU. The cost to reach a share of it is where the mean curve first gets there; its "
            f"95 % interval is the percentile bootstrap over seeds, of the group and of full "
            f"supervision ({DRAWS:,} draws)."
        )
    if comparison.rare:
        parts.append(
            f"Rare classes are {_names(comparison.rare)}, given by name or because they have less "
            f"than {wording.percent(RARE, 0)} % of an equal share of what was answered."
        )
    students, flips = _tests(comparison)
    if students or flips:
        tests = f"{flips} test{'s' if flips > 1 else ''}"
        if students != flips:
            tests = f"the {students} and {flips} tests that could be made"
        against = comparison.against
        family = (
            f"every method against {against.name}"
            if comparison.family == "against" and against is not None
            else "every method against every other"
        )
        parts.append(
            f"We test {_MEASURED[comparison.measure]}, {family}, in pairs of runs with the same "
            f"seed, two-sided, by Student's paired t test and by the exact sign-flip test, which "
            f"needs no normal distribution. p-values are adjusted by Holm's method over the family "
            f"of {tests}, for each test by itself."
        )
    if len(comparison.groups) > 1:
        budgets = len(comparison.budgets)
        parts.append(
            f"The pairwise penalty matrix (Ash et al., 2020) counts at which share of "
            f"{budgets} budget{'s' if budgets > 1 else ''} a method's mean is higher with p <= "
            f"0.05 of the paired t test, unadjusted."
        )
    return " ".join(parts)


def _tests(comparison: Comparison) -> tuple[int, int]:
    """Tests that could be made: Student's, and sign flips."""
    made = comparison.contests
    return sum(c.p_t == c.p_t for c in made), sum(c.p_flip == c.p_flip for c in made)


def _finding(contest: Contest, measure: str) -> str:
    if not contest.seeds:
        return f"{contest.ours} and {contest.theirs} cannot be compared: no seed is common to both."
    mean = float(contest.differences.mean())
    points = wording.change(0.0, abs(mean)).lstrip("+−")
    wins, ties, _ = contest.score
    count = len(contest.seeds)
    if points == "0.0":
        where = f"is level with {contest.theirs}"
    else:
        where = f"is {points} points {'above' if mean > 0 else 'below'} {contest.theirs}"
    held = f"higher in {wins} of {count} seed{'s' if count > 1 else ''}"
    held += f", level in {ties}" if ties else ""
    tests = [
        f"{name} p = {p_words(p)}".replace("= <", "< ")
        for name, p in (("t test", contest.holm_t), ("sign flips", contest.holm_flip))
        if p == p
    ]
    sure = f"; after Holm {', '.join(tests)}" if tests and count > 1 else ""
    return f"{contest.ours} {where} {_SHORT[measure]} ({held}{sure})."


def _names(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
