"""The command: ``python -m alseg.compare RUN_DIR RUN_DIR ... [--against NAME] [--out DIR]``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alseg.cli import command
from alseg.cli.folders import read_folders
from alseg.cli.help import explain
from alseg.core.errors import UserError

#: The method that stands for full supervision unless another is named.
FULL = "supervised"


@dataclass(frozen=True)
class CompareOptions:
    """Compares methods over several seeds, with tests, tables and figures.

    Runs that differ in their seed alone form a group, named after its method and what sets it apart
    from other groups of that method. All must have the same data, network, budget and prices. Runs
    with the same seed are compared in pairs. Every option is also written --name VALUE.

    Attributes:
        against: The group or method that all others are compared with; null = none.
        full: The group or method of full supervision, which may have another budget; null = the
            runs of method supervised, if there are any.
        axis: What was spent: clicks, seconds, pixels, units, images or round.
        out: Folder of the tables, the figures and the page, index.html.
        measure: What is tested: area (the mean over the budget) or final (the last shared cost).
        family: Which pairs are tested: against (each with the one named there) or all.
        rare: Names of the rare classes; null = those with less than a fifth of an equal share of
            what was answered.
        allow: Options that may differ between groups, by their full names, such as
            [budget.amount].
        plots: Draw the figures, which takes matplotlib.
        check: Write nothing, and fail if the files in out differ from what the runs give. Also
            written --check.
    """

    against: str | None = "random"
    full: str | None = None
    axis: str = "clicks"
    out: Path = Path("comparison")
    measure: str = "area"
    family: str = "against"
    rare: tuple[str, ...] | None = None
    allow: tuple[str, ...] = ()
    plots: bool = True
    check: bool = False


def compare(folders: Sequence[Path], options: CompareOptions) -> str:
    """Compare runs.

    Returns:
        The tables, how they were made, and where they lie.

    Raises:
        UserError: For runs or options that cannot be used, or files that differ.
    """
    from alseg.report.comparison import compare as put_side_by_side
    from alseg.report.findings import methods_paragraph
    from alseg.report.groups import read_groups
    from alseg.report.study import check_study, write_study
    from alseg.report.tables import tables

    if options.check and not options.out.is_dir():
        raise UserError(f"out={options.out} is no folder, so that there is nothing to check.")
    groups = read_groups(folders, options.axis)
    full = options.full
    if full is None and any(group.method == FULL for group in groups):
        full = FULL
    found = put_side_by_side(
        groups,
        options.axis,
        against=options.against,
        full=full,
        rare=options.rare,
        measure=options.measure,
        family=options.family,
        allowed=options.allow,
    )
    if options.check:
        count = len(check_study(found, options.out, options.plots))
        return f"{count} files in {options.out} are what these runs give."
    page = write_study(found, options.out, options.plots)
    shown = [f"{table.title}\n\n{table.markdown()}" for table in tables(found)]
    return "\n".join([*shown, methods_paragraph(found), "", str(page)])


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        CompareOptions,
        "python -m alseg.compare RUN_DIR RUN_DIR ... [option=value ...]",
        [
            "python -m alseg.compare runs/*_seed* --against random --axis clicks --out results",
            "python -m alseg.compare runs/*_seed* --out results --check",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        print(compare(*read_folders(CompareOptions, words)))

    return command.main(arguments, lambda words: help_text(), work)
