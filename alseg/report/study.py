"""The files of a comparison: tables, figures, a page, and whether those on disk are still right."""

import base64
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.report.comparison import Comparison
from alseg.report.findings import findings, limits, methods_paragraph
from alseg.report.page import render
from alseg.report.plots import FORMATS, encoded, figures
from alseg.report.tables import Table, curves_csv, penalties_csv, ranks_csv, tables

#: Name of the page among the files.
PAGE = "index.html"
_CAPTIONS = {
    "curves": "Learning curves: means of the seeds with 95 % intervals, and every run as dots.",
    "differences": "Differences in pairs of equal seeds: means with 95 % intervals; dots are the "
    "seeds at the end.",
    "penalties": "Pairwise penalties: how often a row is surely above a column.",
    "ranks": "Ranks when one seed is left out: where lines cross, the order is not firm.",
}
_RELEASE = re.compile(rb"Matplotlib v[\w.+]+")
_FIGURE = re.compile(rb"data:image/svg\+xml;base64,[\w+/=]+")


def files(comparison: Comparison, plots: bool = True, page: bool = True) -> dict[str, bytes]:
    """Everything a comparison writes, by file name; the same bytes for the same runs.

    Args:
        comparison: The comparison.
        plots: Whether figures are drawn.
        page: Whether there is a page.

    Raises:
        UserError: Without matplotlib, unless nothing is drawn.
    """
    found: dict[str, bytes] = {}
    shown = tables(comparison)
    for table in shown:
        for suffix, text in (
            ("csv", table.csv()),
            ("md", table.markdown()),
            ("tex", table.latex()),
        ):
            found[f"{table.name}.{suffix}"] = text.encode()
    found["curves.csv"] = curves_csv(comparison).encode()
    found["penalties.csv"] = penalties_csv(comparison).encode()
    found["ranks.csv"] = ranks_csv(comparison).encode()
    found["methods.txt"] = (methods_paragraph(comparison) + "\n").encode()
    drawn = figures(comparison) if plots else {}
    for name, figure in drawn.items():
        for suffix in FORMATS:
            found[f"{name}.{suffix}"] = encoded(figure, suffix)
    if page:
        found[PAGE] = _page(comparison, shown, found, drawn)
    return found


def _page(
    comparison: Comparison,
    shown: Sequence[Table],
    found: Mapping[str, bytes],
    drawn: Iterable[str],
) -> bytes:
    """The page of a comparison, with its tables and the figures that were drawn."""
    pictures = [
        (_CAPTIONS[name], base64.b64encode(found[f"{name}.svg"]).decode("ascii")) for name in drawn
    ]
    seeds = sorted({seed for group in comparison.everyone for seed in group.seeds})
    data = str(comparison.groups[0].identity.get("data", ""))
    context: dict[str, Any] = {
        "title": f"{len(comparison.groups)} methods compared"
        if len(comparison.groups) > 1
        else comparison.groups[0].name,
        "facts": [
            ("Data", data),
            ("Seeds", ", ".join(map(str, seeds))),
            ("Runs", str(sum(len(group.trials) for group in comparison.everyone))),
        ],
        "findings": findings(comparison),
        "limits": limits(comparison),
        "pictures": pictures,
        "tables": shown,
        "paragraph": methods_paragraph(comparison),
        "groups": [
            (group.name, [(trial.seed, trial.folder) for trial in group.trials])
            for group in comparison.everyone
        ],
    }
    return render("study.html", context).encode()


def write_study(comparison: Comparison, out: Path, plots: bool = True, page: bool = True) -> Path:
    """Write the files of a comparison into a folder, in the place of those of another one.

    Returns:
        The page among them.

    Raises:
        UserError: Without matplotlib, unless nothing is drawn.
    """
    made = files(comparison, plots, page)
    # in a folder of somebody's own, files of these names are theirs
    older = all((out / name).is_file() for name in ("methods.txt", "curves.csv", "ranks.csv"))
    for name, content in made.items():
        write_atomic(out / name, content)
    for path in _left(out, made, plots) if older else []:
        path.unlink()
    return out / PAGE


def _left(out: Path, made: Collection[str], plots: bool) -> list[Path]:
    """Files of a comparison of other runs that had more of them."""
    stems = {*_CAPTIONS, "summary", "tests", "classes"}
    suffixes = [f".{suffix}" for suffix in ("csv", "md", "tex", *(FORMATS if plots else ()))]
    return [
        path
        for path in sorted(out.iterdir())
        if path.stem in stems and path.suffix in suffixes and path.name not in made
    ]


def check_study(
    comparison: Comparison, out: Path, plots: bool = True, page: bool = True
) -> list[str]:
    """Compare the files in a folder with what the runs give today.

    Figures of another release of matplotlib differ in their bytes, not in what they show: they are
    not compared then.

    Returns:
        Names of the files that were compared.

    Raises:
        UserError: If a file is missing, differs or is one too many, naming it.
    """
    compared, wrong = [], []
    expected = files(comparison, plots, page)
    for name, content in expected.items():
        path = out / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
            continue
        stored = path.read_bytes()
        if name == PAGE:
            content, stored = (_FIGURE.sub(b"", text) for text in (content, stored))
        elif _RELEASE.findall(content)[:1] != _RELEASE.findall(stored)[:1]:
            continue
        compared.append(name)
        if content != stored:
            wrong.append(f"{name} differs")
    wrong += [f"{path.name} is left from other runs" for path in _left(out, expected, plots)]
    if wrong:
        raise UserError(
            f"{out} is not what these runs give: {', '.join(wrong)}; write it anew without check, "
            f"and look at what changed."
        )
    return compared
