"""Tables of a comparison, as CSV for machines, Markdown for pages and LaTeX for papers."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.report import wording
from alseg.report.comparison import Comparison, Reach
from alseg.report.curves import AXES
from alseg.report.groups import Group

#: What a measure is called.
MEASURE_NAMES = {"final": "Final mIoU", "area": "Area under the curve"}
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "−": "$-$",
    "–": "--",
    "∞": r"$\infty$",
    ">": "$>$",
    "<": "$<$",
}


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Of its files.
        title: What it shows.
        columns: Headings.
        rows: Cells as a reader wants them, as many as there are columns.
        numbers: The same for machines, one mapping from column to value per row; all have the same
            columns.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Mapping[str, str | int | float]]

    def csv(self) -> str:
        """The numbers; what is not known is left empty, ``inf`` is never reached."""
        buffer = io.StringIO()
        names = list(self.numbers[0]) if self.numbers else list(self.columns)
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        for row in self.numbers:
            writer.writerow([_cell(row[name]) for name in names])
        return buffer.getvalue()

    def markdown(self) -> str:
        """The cells; numbers stand at the right."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        shown = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"

    def latex(self) -> str:
        """The cells, for the package booktabs."""
        lines = [" & ".join(map(latex_text, line)) + r" \\" for line in (self.columns, *self.rows)]
        return "\n".join(
            [
                f"% {self.title}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )


def latex_text(text: str) -> str:
    r"""Text with all that means something to LaTeX written so that it is seen.

    >>> print(latex_text("50 % ± 1, run_1"))
    50 \% $\pm$ 1, run\_1
    """
    return "".join(_LATEX.get(character, character) for character in text)


def tables(comparison: Comparison) -> list[Table]:
    """All tables of a comparison."""
    found = [summary(comparison)]
    if comparison.contests:
        found.append(contests(comparison))
    if comparison.rare:
        found.append(classes(comparison))
    return found


def summary(comparison: Comparison) -> Table:
    """One row per group: mIoU at the end and over the budget, and what shares of full cost."""
    level, axis = comparison.level, comparison.axis
    rows: list[dict[str, str]] = []
    numbers: list[dict[str, str | int | float]] = []
    for group in comparison.groups:
        row: dict[str, str] = {"Method": group.name, "Seeds": str(len(group.trials))}
        number: dict[str, str | int | float] = {"method": group.name, "seeds": len(group.trials)}
        for measure, title in MEASURE_NAMES.items():
            values = comparison.measured(group, measure)
            row[f"{title}, %"] = spread(values)
            number |= _numbers(f"{measure}_miou", values)
            if level:
                row[f"{measure.capitalize()}, % of full"] = spread(values / level)
                number[f"{measure}_share_of_full"] = float(values.mean() / level)
        for reach in comparison.reaches(group):
            percent = f"{100 * reach.share:.0f}"
            row[f"{AXES[axis]} to {percent} % of full"] = reach_words(reach, axis)
            cost = reach.cost
            ends = {"": cost.value, "_low": cost.low, "_high": cost.high}
            number |= {f"{axis}_to_{percent}{end}": value for end, value in ends.items()}
            number[f"at_most_{percent}"] = int(reach.at_start)
        if comparison.rare:
            values = rare_mean(comparison, group)
            row["IoU of rare classes, %"] = spread(values)
            number |= _numbers("rare_iou", values)
        rows.append(row)
        numbers.append(number)
    if comparison.full is not None:
        values = comparison.full_values
        row = dict.fromkeys(rows[0], "")
        row |= {"Method": comparison.full.name, "Seeds": str(len(values))}
        row["Final mIoU, %"] = spread(values)
        number = dict.fromkeys(numbers[0], float("nan")) | {"method": comparison.full.name}
        number |= {"seeds": len(values), **_numbers("final_miou", values)}
        if comparison.rare:
            last = [[t.ious[name][-1] for name in comparison.rare] for t in comparison.full.trials]
            values = np.array(last).mean(axis=1)
            row["IoU of rare classes, %"] = spread(values)
            number |= _numbers("rare_iou", values)
        rows.append(row)
        numbers.append(number)
    end = cost_words(float(comparison.grid[-1]), axis)
    title = f"mIoU at {end} and on average until then, mean ± standard deviation over seeds"
    columns = list(rows[0])
    return Table("summary", title, columns, [list(row.values()) for row in rows], numbers)


def contests(comparison: Comparison) -> Table:
    """One row per test: differences, wins, ties and losses, p-values before and after Holm."""
    rows: list[list[str]] = []
    numbers: list[dict[str, str | int | float]] = []
    for contest in comparison.contests:
        p = (contest.p_t, contest.holm_t, contest.p_flip, contest.holm_flip)
        row = [f"{contest.ours} against {contest.theirs}", str(len(contest.seeds))]
        row += [signed(contest.differences), "/".join(map(str, contest.score)), *map(p_words, p)]
        rows.append(row)
        wins, ties, losses = contest.score
        number: dict[str, str | int | float] = {
            "method": contest.ours,
            "against": contest.theirs,
            "pairs": len(contest.seeds),
            **_numbers("difference", contest.differences),
            **{"wins": wins, "ties": ties, "losses": losses},
            **dict(zip(("p_t", "holm_t", "p_flip", "holm_flip"), p, strict=True)),
        }
        numbers.append(number)
    columns = ["Pair", "Seeds", "Difference", "Wins/ties/losses"]
    columns += ["p, paired t", "t after Holm", "p, sign flips", "flips after Holm"]
    measure = MEASURE_NAMES[comparison.measure].lower().replace("miou", "mIoU")
    return Table("tests", f"Differences in points of mIoU: {measure}", columns, rows, numbers)


def classes(comparison: Comparison) -> Table:
    """One row per group, one column per rare class: IoU at the end of the shared costs."""
    rows: list[list[str]] = []
    numbers: list[dict[str, str | int | float]] = []
    for group in comparison.groups:
        values = {name: comparison.class_values(group, name) for name in comparison.rare}
        rows.append([group.name, *(spread(v) for v in values.values())])
        number: dict[str, str | int | float] = {"method": group.name}
        for name, v in values.items():
            number |= _numbers(name, v)
        numbers.append(number)
    if comparison.full is not None:
        full = comparison.full
        values = {name: np.array([t.ious[name][-1] for t in full.trials])
                  for name in comparison.rare}  # fmt: skip
        rows.append([full.name, *(spread(v) for v in values.values())])
        number = {"method": full.name}
        for name, v in values.items():
            number |= _numbers(name, v)
        numbers.append(number)
    columns = ["Method", *(f"{name}, %" for name in comparison.rare)]
    end = cost_words(float(comparison.grid[-1]), comparison.axis)
    return Table("classes", f"IoU of the rare classes at {end}", columns, rows, numbers)


def curves_csv(comparison: Comparison) -> str:
    """Every measured round of every run, as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "seed", "run", comparison.axis, "miou"])
    for group in comparison.everyone:
        for trial in group.trials:
            for cost, miou in zip(trial.costs, trial.miou, strict=True):
                row = [group.name, trial.seed, trial.folder, _cell(float(cost)), _cell(float(miou))]
                writer.writerow(row)
    return buffer.getvalue()


def penalties_csv(comparison: Comparison) -> str:
    """The pairwise penalty matrix: at what share of the budgets a row beats a column, as CSV."""
    names = [group.name for group in comparison.groups]
    lines = zip(names, comparison.penalties, strict=True)
    return _matrix("method", names, [(name, row) for name, row in lines])


def ranks_csv(comparison: Comparison) -> str:
    """Ranks of all groups with all common seeds and without each of them, as CSV."""
    names = [group.name for group in comparison.groups]
    ranks = comparison.ranks
    if ranks is None:
        return _matrix("seed left out", names, [])
    return _matrix("seed left out", names, list(zip(comparison.left_out, ranks, strict=True)))


def _matrix(
    corner: str, names: Sequence[str], lines: Sequence[tuple[str, NDArray[np.float64]]]
) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([corner, *names])
    for name, row in lines:
        writer.writerow([name, *(_cell(float(value)) for value in row)])
    return buffer.getvalue()


def rare_mean(comparison: Comparison, group: Group) -> NDArray[np.float64]:
    """Mean IoU of the rare classes at the end of the shared costs, for every trial."""
    values = [comparison.class_values(group, name) for name in comparison.rare]
    return np.mean(values, axis=0)


def spread(values: NDArray[np.float64]) -> str:
    """Mean and standard deviation of shares, in per cent; the latter needs two values.

    >>> spread(np.array([0.4, 0.5])), spread(np.array([0.4])), spread(np.array([np.nan]))
    ('45.0 ± 7.1', '40.0', '–')
    """
    if not len(values) or not np.isfinite(values).all():
        return wording.NOTHING
    mean = wording.percent(float(values.mean()))
    return f"{mean} ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else mean


def signed(differences: NDArray[np.float64]) -> str:
    """Mean difference in points with its sign, and the standard deviation."""
    if not len(differences):
        return wording.NOTHING
    mean = wording.change(0.0, float(differences.mean()))
    return f"{mean} ± {100 * differences.std(ddof=1):.1f}" if len(differences) > 1 else mean


def p_words(p: float) -> str:
    """A p-value with as many digits as it bears.

    >>> p_words(0.0625), p_words(0.00004), p_words(float("nan"))
    ('0.0625', '<0.001', '–')
    """
    if math.isnan(p):
        return wording.NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3g}"


def cost_words(cost: float, axis: str) -> str:
    """A cost with its unit.

    >>> cost_words(1200, "clicks"), cost_words(5400, "seconds")
    ('1,200 clicks', '90 min')
    """
    if axis == "seconds":
        return wording.duration(cost)
    return f"round {cost:g}" if axis == "round" else f"{_count(cost)} {AXES[axis].lower()}"


def reach_words(reach: Reach, axis: str) -> str:
    """Where a share of full supervision is reached, and the interval."""

    def said(cost: float, never: str) -> str:
        if math.isinf(cost):
            return never
        return wording.duration(cost) if axis == "seconds" else _count(cost)

    beyond = f">{said(reach.last, '')}"
    words = f"{'≤' if reach.at_start else ''}{said(reach.cost.value, beyond)}"
    if math.isnan(reach.cost.low) or math.isinf(reach.cost.low):
        return words
    return f"{words} ({said(reach.cost.low, beyond)} to {said(reach.cost.high, beyond)})"


def _count(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"


def _numbers(name: str, values: NDArray[np.float64]) -> dict[str, str | int | float]:
    known = bool(len(values)) and bool(np.isfinite(values).all())
    return {
        f"{name}_mean": float(values.mean()) if known else float("nan"),
        f"{name}_sd": float(values.std(ddof=1)) if known and len(values) > 1 else float("nan"),
    }


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
