"""What ``docs/choose.md`` says was measured, made from the files of results."""

from collections.abc import Mapping
from pathlib import Path

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.report.comparison import Comparison
from alseg.report.groups import Group
from alseg.report.tables import rare_mean, signed, spread
from experiments.study.plan import BOARDS, ROWS, SETTINGS, batches, chance_of

PAGE = Path(__file__).parents[2] / "docs" / "choose.md"
#: Settings, the one that says more first: a row is shown in the first one of its data that has it.
ORDER = ("medium", "small", "aerial")
_START, _END = "<!-- measured: start -->\n", "<!-- measured: end -->\n"
_TITLES = {
    "pixels": "pixel",
    "superpixels": "superpixel, one class",
    "class_sets": "superpixel, all",
    "patches": "patch",
    "images": "image",
}
#: What is added for data other than CamVid.
_DATA = {"camvid": "", "aerial": ", aerial"}
_COLUMNS = (
    "row",
    "asked",
    "batches",
    "seeds",
    "against random",
    "end, % of full",
    "rare classes",
)


def table(found: Mapping[str, Mapping[str, Comparison]]) -> str:
    """One row per method that was measured, as Markdown.

    Args:
        found: By setting, then by board, see `experiments.study.tables.comparisons`.
    """
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2),
    ]
    for board in BOARDS:
        shown: set[tuple[str, str]] = set()
        for setting in ORDER:
            comparison = found.get(setting, {}).get(board)
            if comparison is None:
                continue
            data = _DATA[SETTINGS[setting].data]
            for group in comparison.groups:
                if (data, group.name) not in shown:
                    shown.add((data, group.name))
                    first = [f"`{group.name}`", f"{_asked(group.name)}{data}"]
                    first.append(batches(group.name, SETTINGS[setting]))
                    lines.append(f"| {' | '.join([*first, *_cells(comparison, group)])} |")
    return "\n".join(lines) + "\n"


def _asked(row: str) -> str:
    one_class = ROWS[row].words.get("method.answer") == "dominant"
    return _TITLES["superpixels" if one_class else ROWS[row].board]


def _cells(comparison: Comparison, group: Group) -> list[str]:
    final = comparison.measured(group, "final")
    share = "" if comparison.level is None else spread(final / comparison.level)
    chance = next((g for g in comparison.groups if g.name == chance_of(group.name)), None)
    points = ""
    if chance is not None:
        contest = comparison.contest(group, chance)
        above = int((contest.differences > 0).sum())
        points = f"{signed(contest.differences)} ({above} of {len(contest.seeds)})"
    rare = spread(rare_mean(comparison, group))
    return [str(len(final)), points, share, rare]


def written(text: str, inner: str) -> str:
    """The page with the table in its place.

    Raises:
        UserError: For a page that has no place for it.
    """
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise UserError(f"docs/choose.md needs the lines {_START!r} and {_END!r}.")
    return f"{before}{start}\n{inner}\n{end}{after}"


def page() -> str:
    """`PAGE` as the files of results make it."""
    from experiments.study.command import results_file
    from experiments.study.tables import comparisons

    files = {setting: results_file(setting) for setting in ORDER}
    found = {setting: comparisons(file, setting) for setting, file in files.items()}
    return written(PAGE.read_text("utf-8"), table(found))


def write() -> None:
    """Write `PAGE` anew."""
    write_atomic(PAGE, page())


def check() -> None:
    """Compare `PAGE` with what the results give.

    Raises:
        UserError: If it differs.
    """
    if PAGE.read_text("utf-8") != page():
        raise UserError(
            "docs/choose.md does not show what the results give; write it anew with "
            "python -m experiments.study --tables."
        )
