"""A comparison as people read it: tables, a paragraph for a paper, charts."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alseg.core.errors import UserError
from alseg.report.chart import Chart, Series, layout
from alseg.report.compare import RESAMPLES, SHARES, Comparison, penalties, ranks_without
from alseg.report.curves import COLORS
from alseg.report.statistics import least_p_words


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
            f"of it are those of the mean curve, with 95 % intervals from {RESAMPLES} bootstrap "
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
