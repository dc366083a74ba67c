"""Tables and figures of the study, made from the file of results alone by `alseg.report`."""

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alseg.cli.compose import options
from alseg.cli.run import identity
from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.report.comparison import Comparison, compare
from alseg.report.findings import findings, limits
from alseg.report.groups import Group, read_groups
from alseg.report.plots import encoded, figures
from alseg.report.study import check_study, write_study
from alseg.report.tables import tables
from experiments.study import results
from experiments.study.plan import BOARDS, FULL, ROWS, SETTINGS, Job, Setting, words
from experiments.study.results import OWN, Rows

#: Classes of CamVid with less than a fifth of an equal share of the pixels of the training masks.
RARE = ("bicyclist", "pedestrian", "pole", "fence", "sign")
#: What the boards are measured in, where it is not clicks.
_AXES = {"patches": "units"}
_TITLES = {
    "pixels": "The class of a pixel",
    "superpixels": "The class of most of a superpixel",
    "class_sets": "All classes of a superpixel",
    "patches": "The mask of a patch",
}
_FIGURES = ("curves", "differences")
#: Where the tables stand in `README.md`.
_START, _END = "<!-- results: start -->\n", "<!-- results: end -->\n"
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
    """Write the tables, the figures and what `README.md` says of them.

    Raises:
        UserError: Without matplotlib.
    """
    found = comparisons(file, setting)
    for board, comparison in found.items():
        out = _HERE / setting / board
        write_study(comparison, out, plots=False)
        drawn = figures(comparison)
        for name in _FIGURES:
            if name in drawn:
                write_atomic(out / f"{name}.svg", encoded(drawn[name], "svg"))
    readme = _HERE / "README.md"
    write_atomic(readme, _with_block(readme.read_text("utf-8"), block(found, file, setting)))


def check(file: Path, setting: str) -> None:
    """Compare tables and `README.md` with what the results give. Figures are not drawn.

    Raises:
        UserError: Naming what differs.
    """
    found = comparisons(file, setting)
    for board, comparison in found.items():
        check_study(comparison, _HERE / setting / board, plots=False)
    text = (_HERE / "README.md").read_text("utf-8")
    if text != _with_block(text, block(found, file, setting)):
        raise UserError(
            "experiments/study/README.md does not show what the results give; write it anew with "
            "python -m experiments.study --tables."
        )


def block(found: Mapping[str, Comparison], file: Path, setting: str) -> str:
    """Tables and findings of all boards as Markdown."""
    parts = [f"{_effort(results.read(file))}\n"]
    for board, comparison in found.items():
        parts.append(f"### {_TITLES[board]}\n")
        for table in tables(comparison):
            parts.append(f"{table.title}:\n\n{table.markdown()}")
        parts += [f"- {sentence}" for sentence in (*findings(comparison), *limits(comparison))]
        parts.append("")
        parts += [
            f"![{name} of {board}]({setting}/{board}/{name}.svg)\n"
            for name in _FIGURES
            if (_HERE / setting / board / f"{name}.svg").is_file()
        ]
    return "\n".join(parts)


def _effort(finished: Mapping[Job, Rows]) -> str:
    spent = [float(rows[-1]["cpu_s"]) for rows in finished.values()]
    rounds = sum(len(rows) for rows in finished.values())
    return (
        f"{len(spent)} runs of {rounds} rounds, {sum(spent) / 60:.0f} minutes of processor time in "
        f"all."
    )


def _with_block(text: str, inner: str) -> str:
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise UserError(f"experiments/study/README.md has lost its lines {_START!r} and {_END!r}.")
    return f"{before}{start}\n{inner}\n{end}{after}"


def _belongs(job: Job, board: str) -> bool:
    return job.row == FULL or ROWS[job.row].board == board


def _compared(runs: Mapping[Job, Rows], board: str, setting: Setting, folder: Path) -> Comparison:
    folders = [_run_folder(job, rows, setting, folder) for job, rows in runs.items()]
    axis = _AXES.get(board, "clicks")
    groups = [_named(group) for group in read_groups(folders, axis)]
    full = FULL if any(job.row == FULL for job in runs) else None
    return compare(groups, axis, against=BOARDS[board], full=full, rare=RARE)


def _run_folder(job: Job, rows: Sequence[Mapping[str, str]], setting: Setting, root: Path) -> Path:
    """What `alseg.report` reads of a run."""
    folder = root / f"{job.row}_seed{job.seed}"
    folder.mkdir()
    run = options(*words(job, setting), "data.root=CamVid")
    (folder / "run.json").write_text(json.dumps(identity(run)))
    columns = [name for name in rows[0] if name not in OWN]
    with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _named(group: Group) -> Group:
    """A group by the name of its row."""
    return replace(group, name=group.trials[0].folder.rpartition("_seed")[0])
