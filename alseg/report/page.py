"""The page one opens after a run: one file that needs neither a network nor anything beside it."""

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.labels.kinds import KINDS
from alseg.report import people, sections, wording
from alseg.report.chart import Chart
from alseg.report.curves import (
    COLORS,
    Curve,
    compared_curves,
    curves_of,
    learning_curves,
    training_charts,
)
from alseg.report.folder import Run, read_run


def write_report(run_dir: Path) -> Path:
    """Write the report of a run from what lies in its folder.

    Needs ``rounds.csv`` with at least one row. ``config.yaml``, ``report.json`` (see
    `alseg.report.folder.About`), ``round_NNN/metrics.json`` and ``round_NNN/pictures`` (see
    `alseg.report.folder.save_pictures`) are shown where they are there. The page depends on the
    content of these files alone: written twice, it has the same bytes.

    Args:
        run_dir: The run folder.

    Returns:
        Path of the page, ``report.html`` in the run folder.

    Raises:
        UserError: If this is no run folder, no round is finished, or a file cannot be read.
    """
    path = run_dir / "report.html"
    write_atomic(path, render("run.html", _run_page(read_run(run_dir))))
    return path


def write_comparison(run_dirs: Sequence[Path], out: Path) -> Path:
    """Write one page with the learning curves and the last rounds of several runs.

    Args:
        run_dirs: The run folders.
        out: Path of the page.

    Returns:
        The path of the page.

    Raises:
        UserError: If a folder is no run folder, is named twice, or a file in it cannot be read.
    """
    twice = [path for path, n in Counter(p.resolve() for p in run_dirs).items() if n > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice; name each run to be compared once.")
    runs = [read_run(path) for path in run_dirs]
    write_atomic(out, render("comparison.html", _comparison_page(runs)))
    return out


def write_chart(title: str, facts: Sequence[tuple[str, str]], chart: Chart, out: Path) -> Path:
    """Write one page with one chart.

    Args:
        title: Of the page.
        facts: What stands under the title, names and values.
        chart: From `alseg.report.chart.layout`.
        out: Path of the page.

    Returns:
        The path of the page.
    """
    write_atomic(out, render("chart.html", {"title": title, "facts": facts, "chart": chart}))
    return out


def render(template: str, context: dict[str, Any]) -> str:
    """A page from one of the templates beside this module.

    Args:
        template: Name of its file.
        context: What it names; a name that is missing is an error.
    """
    folder = resources.files("alseg.report")

    def text(name: str) -> str:
        return (folder / name).read_text("utf-8")

    environment = Environment(
        loader=FunctionLoader(text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["style"] = Markup(text("page.css"))
    environment.globals["script"] = Markup(text("page.js"))
    environment.globals["colors"] = COLORS
    environment.filters |= {"percent": wording.percent, "change": wording.change}
    return environment.get_template(template).render(context)


def _run_page(run: Run) -> dict[str, Any]:
    colors = run.about.color_of()
    header, rows = sections.rounds_table(run)
    parts, bars = sections.machine(run)
    kind = KINDS.get(run.about.answer)
    return {
        "title": sections.title(run),
        "facts": sections.facts(run),
        "tiles": sections.tiles(run),
        "charts": learning_curves(curves_of(run)),
        "measured": run.measured,
        "advice": sections.advice(run),
        "training": training_charts(run),
        "notes": run.about.notes,
        "pace": people.pace(run),
        "annotators": people.annotators(run),
        "model": people.model(run),
        "panels": sections.panels(run),
        "unit": run.about.unit or "unit",
        "stripes": kind is None or kind.column == "sets",
        "legend": list(colors.items()),
        "rounds": run.rounds,
        "miou": run.table["miou"].tolist(),
        "classes": [(name, colors.get(name), v.tolist()) for name, v in run.ious.items()],
        "header": header,
        "rows": rows,
        "machine_parts": parts,
        "machine_bars": bars,
        "divisions": sections.divisions(run),
        "config": run.config_text,
    }


def _comparison_page(runs: Sequence[Run]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda run: -np.nan_to_num(sections.last(run.table["miou"]), nan=-1.0))
    names = _names(runs)
    curves = compared_curves(runs, names)
    data = sorted({run.option("data", "name") for run in runs})
    notes = []
    if len(data) > 1:
        notes.append(
            f"These runs are on different data ({', '.join(map(repr, data))}): their "
            f"curves say nothing about which method is better."
        )
    return {
        "title": f"{len(runs)} runs compared",
        "facts": [],
        "notes": notes,
        "charts": learning_curves(curves),
        "measured": any(run.measured for run in runs),
        "curves": [(curve, _final_row(curve)) for curve in curves],
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """One different name per run: as many of the last parts of the paths as that takes."""
    parts = [run.path.resolve().parts for run in runs]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def _final_row(curve: Curve) -> dict[str, str]:
    run = curve.run

    def cost(column: str) -> str:
        said = wording.duration if column == "seconds" else wording.count
        return said(sections.last(run.table[column])) if column in run.table else wording.NOTHING

    miou = run.table["miou"]
    best = float(miou[np.isfinite(miou)].max(initial=0.0)) if np.isfinite(miou).any() else np.nan
    return {
        "Run": curve.name,
        "Last mIoU, %": wording.percent(sections.last(miou)),
        "Best mIoU, %": wording.percent(best),
        "Method": run.option("method", "name"),
        "Data": run.option("data", "name"),
        "Seed": run.option("seed"),
        "Rounds": str(len(run.rounds)),
        "Images": cost("images"),
        "Units": cost("units"),
        "Pixels": cost("pixels"),
        "Clicks": cost("clicks"),
        "Time": cost("seconds"),
    }
