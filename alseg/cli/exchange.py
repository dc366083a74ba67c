"""The command: ``python -m alseg.exchange export|import RUN_DIR --format NAME``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alseg.cli import command
from alseg.cli.folders import read_folders
from alseg.cli.help import explain
from alseg.core.errors import UserError

FormatName = Literal["cvat", "coco", "labelstudio", "labelme", "mask", "geojson"]


@dataclass(frozen=True)
class ExportOptions:
    """Writes the open questions of a run for a tool that people already have.

    Every option is also written --name VALUE.

    Attributes:
        format: cvat = CVAT for images 1.1; coco = COCO 1.0; labelstudio = Label Studio's JSON;
            labelme = labelme's JSON; mask = Segmentation mask 1.1; geojson = GeoJSON in EPSG:4326,
            for GeoTIFFs, which takes alseg[geo].
        out: Folder to write, which must not be there; null = exchange/FORMAT in the folder of the
            round.
        crops: A crop about twice as wide as the unit for each question, in the place of whole
            images. Also written --crops.
        suggestions: Add what the model of the round before would answer; saves time, and biases
            people. Also written --suggestions.
        rows: Only the first so many open questions; null = all.
    """

    format: FormatName
    out: Path | None = None
    crops: bool = False
    suggestions: bool = False
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise UserError(f"rows is {self.rows}; give at least 1.")


@dataclass(frozen=True)
class ImportOptions:
    """Reads the answers that a tool holds into the answers file of a run.

    Some rows may be missing: a later import adds them. Nothing is written if anything is wrong,
    and everything that is wrong is told at once. Every option is also written --name VALUE.

    Attributes:
        format: As for export.
        rest: Class, or void, of those pixels of a dense mask that nobody painted; null = they are a
            mistake.
        replace: Take answers that differ from those given before. Also written --replace.
        lead_time: Take the wall time that Label Studio measured, pauses included, as the seconds of
            the answers. Also written --lead_time.
    """

    format: FormatName
    rest: str | None = None
    replace: bool = False
    lead_time: bool = False


def export(run_dir: Path, options: ExportOptions) -> str:
    """Export the open questions.

    Returns:
        What was written, and what to do with it.

    Raises:
        UserError: See `alseg.exchange.store.export_round`.
    """
    from alseg.exchange.formats import FORMATS
    from alseg.exchange.store import export_round

    form = FORMATS[options.format]
    out, questions, pictures = export_round(
        run_dir, form, options.out, options.crops, options.suggestions, options.rows
    )
    back = f"python -m alseg.exchange import {run_dir} FILE --format {form.name}"
    return f"{out} has {questions} questions on {pictures} pictures. {form.steps} Then give: {back}"


def import_(run_dir: Path, file: Path | None, options: ImportOptions) -> str:
    """Import answers.

    Returns:
        What was taken, and what is missing.

    Raises:
        UserError: See `alseg.exchange.store.import_answers`.
    """
    from alseg.exchange.formats import FORMATS
    from alseg.exchange.store import import_answers, spans

    form = FORMATS[options.format]
    done = import_answers(run_dir, form, file, options.rest, options.replace, options.lead_time)
    known = f", {done.known} were there already" if done.known else ""
    text = f"{done.path} has {done.new} new answers{known}."
    if done.missing:
        text += f" Without an answer: row {spans(done.missing)}."
    return f"{text} Give the run's command again, with oracle=human."


def help_text() -> str:
    """What ``--help`` prints."""
    words = [
        explain(
            ExportOptions,
            "python -m alseg.exchange export RUN_DIR --format NAME [option=value ...]",
            ["python -m alseg.exchange export runs/first --format cvat --crops"],
        ),
        explain(
            ImportOptions,
            "python -m alseg.exchange import RUN_DIR [FILE] --format NAME [option=value ...]",
            ["python -m alseg.exchange import runs/first annotations.xml --format cvat"],
        ),
    ]
    return "\n\n".join(words)


def work(words: Sequence[str]) -> str:
    """Carry out the words of the command; returns what is printed.

    Raises:
        UserError: For words that are none, and see `export` and `import_`.
    """
    what, rest = words[0], words[1:]
    if what == "export":
        folders, exporting = read_folders(ExportOptions, rest)
        if len(folders) == 1:
            return export(folders[0], exporting)
    elif what == "import":
        paths, importing = read_folders(ImportOptions, rest)
        if len(paths) in (1, 2):
            return import_(paths[0], paths[1] if len(paths) == 2 else None, importing)
    raise UserError(
        f"cannot read {' '.join(words)!r}; write export RUN_DIR, or import RUN_DIR [FILE]."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def print_work(words: list[str]) -> None:
        print(work(words))

    return command.main(arguments, lambda words: help_text(), print_work)
