"""The command: ``python -m alseg.report RUN_DIR [RUN_DIR ...] [out=FILE]``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alseg.cli import command
from alseg.cli.folders import read_folders
from alseg.cli.help import explain
from alseg.core.errors import UserError


@dataclass(frozen=True)
class ReportOptions:
    """Writes the page of a run into its folder, or one page that compares several.

    Attributes:
        out: Where the comparison of several runs goes; null = comparison.html. Also written
            --out FILE.
    """

    out: Path | None = None


def report(folders: Sequence[Path], options: ReportOptions) -> Path:
    """Write a report, or a comparison of several runs.

    Returns:
        The page.

    Raises:
        UserError: If a folder is no run folder, or `ReportOptions.out` is given for one run.
    """
    from alseg.report.page import write_comparison, write_report

    if not folders:
        raise UserError("no run folder is given; write python -m alseg.report RUN_DIR.")
    if len(folders) > 1:
        return write_comparison(folders, options.out or Path("comparison.html"))
    if options.out:
        raise UserError(
            "out= (--out) is for comparisons; the report of one run lies in its folder."
        )
    return write_report(folders[0])


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        ReportOptions,
        "python -m alseg.report RUN_DIR [RUN_DIR ...] [out=FILE]",
        [
            "python -m alseg.report runs/first",
            "python -m alseg.report runs/first runs/second out=compare.html",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        print(report(*read_folders(ReportOptions, words)))

    return command.main(arguments, lambda words: help_text(), work)
