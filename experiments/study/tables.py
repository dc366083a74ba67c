"""Tables and figures of the study, made from the file of results alone by `alseg.report`."""

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alseg.cli.compose import options
from alseg.cli.identity import identity
from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.report.comparison import Comparison, compare
from alseg.report.findings import findings, limits
from alseg.report.groups import Group, read_groups
from alseg.report.plots import encoded, figures
from alseg.report.study import check_study, write_study
from alseg.report.tables import tables
from experiments.study import choose, results
from experiments.study.plan import BOARDS, FULL, ROWS, SETTINGS, Job, Setting, words
from experiments.study.results import ASKED, OWN, Rows

#: What the boards are measured in, where it is not clicks; of images only the masks are counted.
_AXES = {"patches": "units", "images": "units"}
_TITLES = {
    "pixels": "The class of a pixel",
    "superpixels": "The class of most of a superpixel",
    "class_sets": "All classes of a superpixel",
    "patches": "The mask of a patch",
    "images": "The mask of an image",
}
_FIGURES = ("curves", "differences")
#: A set takes fewer seconds a click than one class does: this board is compared along both.
_HOURS, _HOURS_AGAINST = "class_sets", "mulquery_dominant"
#: Where the tables of a setting stand in `README.md`.
_START, _END = "<!-- {}: start -->\n", "<!-- {}: end -->\n"
_HERE = Path(__file__).parent


def comparisons(file: Path, setting: str) -> dict[str, Comparison]:
    """The boards that have something to compare, by name.

    Args:
        file: The results.
        setting: Name of their setting.
    """
    finished = results.read(file)
    found = {}
    for board, against in BOARDS.items():
        runs = {job: rows for job, rows in finished.items() if _belongs(job, board)}
        named = {job.row for job in runs}
        if against in named and len(named - {FULL}) > 1:
            with tempfile.TemporaryDirectory() as folder:
                found[board] = _compared(runs, board, SETTINGS[setting], Path(folder))
    return found


def write(file: Path, setting: str) -> None:
    """Write the tables, the figures, and what `README.md` and the page `choose` say of them.

    Raises:
        UserError: Without matplotlib.
    """
    found = comparisons(file, setting)
    for board, comparison in found.items():
        out = _HERE / setting / board
        write_study(comparison, out, plots=False, page=False)
        drawn = figures(comparison)
        for name in _FIGURES:
            if name in drawn:
                write_atomic(out / f"{name}.svg", encoded(drawn[name], "svg"))
    readme = _HERE / "README.md"
    write_atomic(
        readme, _with_block(readme.read_text("utf-8"), setting, block(found, file, setting))
    )
    choose.write()


def check(file: Path, setting: str) -> None:
    """Compare tables and both pages with what the results give. Figures are not drawn.

    Raises:
        UserError: Naming what differs.
    """
    found = comparisons(file, setting)
    for board, comparison in found.items():
        check_study(comparison, _HERE / setting / board, plots=False, page=False)
    text = (_HERE / "README.md").read_text("utf-8")
    if text != _with_block(text, setting, block(found, file, setting)):
        raise UserError(
            f"experiments/study/README.md does not show what the results give; write it anew with "
            f"python -m experiments.study --setting {setting} --tables."
        )
    choose.check()


def block(found: Mapping[str, Comparison], file: Path, setting: str) -> str:
    """Tables and findings of all boards as Markdown."""
    finished = results.read(file)
    parts = [f"{_effort(finished)}\n"]
    for board, comparison in found.items():
        parts.append(f"#### {_TITLES[board]}\n")
        for table in tables(comparison):
            parts.append(f"{table.title}:\n\n{table.markdown()}")
        parts.append(_asked(finished, board))
        parts += [f"- {sentence}" for sentence in (*findings(comparison), *limits(comparison))]
        parts.append("")
        if board == _HOURS:
            parts += _by_hours(finished, SETTINGS[setting])
        parts += [
            f"![{name} of {board}]({setting}/{board}/{name}.svg)\n"
            for name in _FIGURES
            if (_HERE / setting / board / f"{name}.svg").is_file()
        ]
    return "\n".join(parts)


def _by_hours(finished: Mapping[Job, Rows], setting: Setting) -> list[str]:
    """The board of class sets along seconds of annotation, in which one class costs more."""
    runs = {job: rows for job, rows in finished.items() if _belongs(job, _HOURS)}
    if _HOURS_AGAINST not in {job.row for job in runs}:
        return []
    with tempfile.TemporaryDirectory() as folder:
        found = _compared(runs, _HOURS, setting, Path(folder), "seconds", _HOURS_AGAINST)
    parts = ["##### The same by seconds of annotation, of the papers' prices\n"]
    parts += [f"{table.title}:\n\n{table.markdown()}" for table in tables(found)[:2]]
    return [*parts, *(f"- {sentence}" for sentence in findings(found)), ""]


def _asked(finished: Mapping[Job, Rows], board: str) -> str:
    """What was asked after the first round, which was drawn at random, on average."""
    lines = [
        "| Method | Images with a question | Questions in the most asked tenth of the images, % "
        "| Void, % | Rare classes, % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in (name for name in ROWS if ROWS[name].board == board):
        later = [
            line
            for job, rows in finished.items()
            for line in rows[1:]
            if job.row == row and all(line.get(name) for name in ASKED)
        ]
        if later:
            images, top, void, rare = (
                sum(float(line[name]) for line in later) / len(later) for name in ASKED
            )
            shares = " | ".join(f"{100 * share:.1f}" for share in (top, void, rare))
            lines.append(f"| {row} | {images:.0f} | {shares} |")
    return "What a round asked, after the first one:\n\n" + "\n".join(lines) + "\n"


def _effort(finished: Mapping[Job, Rows]) -> str:
    spent = [float(rows[-1]["cpu_s"]) for rows in finished.values()]
    rounds = sum(len(rows) for rows in finished.values())
    return (
        f"{len(spent)} runs of {rounds} rounds, {sum(spent) / 60:.0f} minutes of processor time in "
        f"all."
    )


def _with_block(text: str, setting: str, inner: str) -> str:
    first, last = _START.format(setting), _END.format(setting)
    before, start, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not start or not end:
        raise UserError(f"experiments/study/README.md needs the lines {first!r} and {last!r}.")
    return f"{before}{start}\n{inner}\n{end}{after}"


def _belongs(job: Job, board: str) -> bool:
    return job.row == FULL or ROWS[job.row].board == board


def _compared(
    runs: Mapping[Job, Rows],
    board: str,
    setting: Setting,
    folder: Path,
    axis: str = "",
    against: str = "",
) -> Comparison:
    folders = [_run_folder(job, rows, setting, folder) for job, rows in runs.items()]
    axis = axis or _AXES.get(board, "clicks")
    groups = [_named(group) for group in read_groups(folders, axis)]
    full = FULL if any(job.row == FULL for job in runs) else None
    return compare(groups, axis, against=against or BOARDS[board], full=full, rare=setting.rare)


def _run_folder(job: Job, rows: Sequence[Mapping[str, str]], setting: Setting, root: Path) -> Path:
    """What `alseg.report` reads of a run."""
    folder = root / f"{job.row}_seed{job.seed}"
    folder.mkdir()
    run = options(*words(job, setting), f"data.root={setting.data}")
    (folder / "run.json").write_text(json.dumps(identity(run)))
    if ROWS[job.row].board == "images":  # rounds that only ask for scenes are measured by nothing
        rows = [{**row, "units": row["masks"]} for row in rows if row["miou"]]
    columns = [name for name in rows[0] if name not in OWN]
    with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _named(group: Group) -> Group:
    """A group by the name of its row."""
    return replace(group, name=group.trials[0].folder.rpartition("_seed")[0])
