"""The command: ``python -m alseg.compare RUN_DIR RUN_DIR ... against=random axis=clicks``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from alseg.cli import command
from alseg.cli.help import explain
from alseg.cli.words import read_options
from alseg.core.errors import UserError
from alseg.core.files import write_atomic


@dataclass(frozen=True)
class CompareOptions:
    """Compares methods over seeds: tables, curves, tests, and a paragraph for a paper.

    Runs are grouped by everything but their seed and compared at equal cost; runs on different
    data, at different prices or with different networks are refused. Written to the folder:
    comparison.csv, .md, .tex and .html, pairs.csv (who beats whom, and ranks that leave out a
    seed), methods.txt, curves.svg and curves.pdf. Options may also be written --name VALUE.

    Attributes:
        against: The reference, a method or the name of a group; differences are from it.
        full: The method whose runs are full supervision; null = none of them.
        axis: Cost axis: clicks, seconds, pixels or units.
        out: The folder.
        plots: Draw the curves, which takes matplotlib.
        check: Write nothing; fail if the tables in the folder are not those of these runs.
    """

    against: str = "random"
    full: str | None = "supervised"
    axis: str = "clicks"
    out: Path = Path("comparison")
    plots: bool = True
    check: bool = False


def compare(folders: Sequence[Path], options: CompareOptions) -> str:
    """Compare runs and write what was found, or check what is there.

    Returns:
        The table, as Markdown.

    Raises:
        UserError: For runs that cannot be compared, or files that are not theirs.
    """
    from alseg.report import compared as work
    from alseg.report.compare import compare as compare_runs
    from alseg.report.folder import read_run
    from alseg.report.page import write_chart

    runs = [read_run(folder) for folder in folders]
    found = compare_runs(runs, options.against, options.axis, options.full)
    texts = {
        "comparison.csv": work.table_csv(found),
        "comparison.md": work.table_markdown(found),
        "comparison.tex": work.table_latex(found),
        "pairs.csv": work.pairs_csv(found),
        "methods.txt": work.words(found),
    }
    for name, text in texts.items():
        path = options.out / name
        if not options.check:
            write_atomic(path, text)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path} is not what these runs give; make it anew by the same command without "
                f"check."
            )
    if not options.check:
        names = ", ".join(group.name for group in found.groups)
        facts = [("Methods", names), ("Against", found.groups[0].name)]
        page = options.out / "comparison.html"
        write_chart(f"{len(runs)} runs compared", facts, work.mean_chart(found), page, False)
        if options.plots:
            work.draw(found, options.out)
    return texts["comparison.md"] + "\n" + texts["methods.txt"]


def options_from(words: Sequence[str]) -> tuple[list[Path], CompareOptions]:
    """Run folders, and the options, of the words of a command.

    Raises:
        UserError: For options that do not exist.
    """
    names = {field.name for field in fields(CompareOptions)}
    folders: list[Path] = []
    given: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name, is_set, _ = word.removeprefix("--").partition("=")
        if name in names and is_set:
            given.append(word.removeprefix("--"))
        elif word == "--check":
            given.append("check=true")
        elif word.startswith("--") and name in names:
            if not left:
                raise UserError(f"{word} stands without a value; give {word} VALUE.")
            given.append(f"{name}={left.pop(0)}")
        elif word.startswith("-"):
            raise UserError(
                f"cannot read {word!r}; give run folders, and options: {', '.join(sorted(names))}."
            )
        else:
            folders.append(Path(word))
    return folders, read_options(CompareOptions, given)


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        CompareOptions,
        "python -m alseg.compare RUN_DIR RUN_DIR ... [against=METHOD] [axis=AXIS] [out=FOLDER]",
        [
            "python -m alseg.compare runs/random_* runs/margin_* against=random axis=clicks",
            "python -m alseg.compare runs/* out=tables --check",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        print(compare(*options_from(words)))

    return command.main(arguments, lambda words: help_text(), work)
