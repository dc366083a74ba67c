"""The command: ``python -m alseg.label RUN_DIR [--annotator NAME] [option=value ...]``."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alseg.cli import command
from alseg.cli.help import explain
from alseg.cli.words import read_options
from alseg.core.errors import UserError

#: Seconds the server stays up after the round is finished, for the page to say so.
_FAREWELL = 1.0


@dataclass(frozen=True)
class LabelOptions:
    """Answers the questions of a run that waits, in a browser.

    Every answer is on the disk before the next question appears: the command can be stopped and
    given again at any instant. When the round is answered, give the command of the run again.

    Attributes:
        annotators: Who answers, by default the user; each name gets a link. Also written
            --annotator NAME, several times for several people.
        browser: Open a browser; else the link is printed only. Also written --no-browser.
        port: Port to listen on; 0 = any that is free. Also written --port N.
        host: Address to listen on; 127.0.0.1 = reached from this machine only. Also written
            --host ADDRESS.
        overlap: Share of the questions that is asked twice, to see how well annotators agree, such
            as 0.05. Also written --overlap SHARE.
        suggestions: Show what the run's model would answer; saves time, and biases people. Also
            written --suggestions.
    """

    annotators: tuple[str, ...] = ()
    browser: bool = True
    port: int = 0
    host: str = "127.0.0.1"
    overlap: float = 0.0
    suggestions: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise UserError(
                f"overlap (--overlap) is {self.overlap:g}; give a share from 0 to 1, such as 0.05."
            )
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"port (--port) is {self.port}; give one up to 65535, or 0 for any.")


def label(run_dir: Path, options: LabelOptions) -> str:
    """Serve the round that waits, until it is answered or Ctrl-C stops it.

    Returns:
        What to do next.

    Raises:
        UserError: If no round waits, or the page cannot be served.
    """
    from alseg.label.serve import Server, annotator_names, check_installed
    from alseg.label.session import find_waiting, read_session

    names = annotator_names(options.annotators)
    folder = find_waiting(run_dir)
    session = read_session(folder)
    check_installed()
    from alseg.label.desk import Desk
    from alseg.label.server import Office
    from alseg.label.suggestions import suggest_from_run

    hints = suggest_from_run(session, run_dir) if options.suggestions else None
    desk = Desk(session, options.overlap, hints)
    try:
        if not desk.finished.is_set():
            office = Office(desk)
            with Server(office, names, options.host, options.port, options.browser):
                print(f"Round {desk.round}: {len(session)} questions. Ctrl-C stops; all is kept.")
                while not desk.finished.wait(0.2):
                    pass
                desk.hand_in(folder)
                time.sleep(_FAREWELL)
        answers, twice = desk.hand_in(folder), desk.agreement()
    except KeyboardInterrupt:
        return "\nStopped; the same command goes on."
    finally:
        desk.close()
    agree = ""
    if twice.questions:
        agree = f"{twice.questions} questions were asked twice, Cohen's kappa {twice.kappa:.2f}. "
    return f"Round {desk.round} has {len(answers)} answers. {agree}Give the run's command again."


def options_from(words: Sequence[str]) -> tuple[Path, LabelOptions]:
    """The run folder, and the options, of the words of a command.

    Raises:
        UserError: For options that do not exist, and for other than one folder.
    """
    folders: list[str] = []
    given: list[str] = []
    annotators: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            name, is_option, _ = word.partition("=")
            known = is_option and name in LabelOptions.__dataclass_fields__
            (given if known else folders).append(word)
            continue
        name, has_value, value = word.removeprefix("--").partition("=")
        if name in ("no-browser", "suggestions") and not has_value:
            given.append("browser=false" if name == "no-browser" else "suggestions=true")
            continue
        if name not in ("annotator", "port", "host", "overlap"):
            raise UserError(f"cannot read {word!r}; --help lists the options.")
        if not has_value:
            if not left:
                raise UserError(f"{word} stands without a value.")
            value = left.pop(0)
        if name == "annotator":
            annotators.append(value)
        else:
            given.append(f"{name}={value}")
    if len(folders) != 1:
        said = " and ".join(folders) or "none"
        raise UserError(f"one run folder is needed, and {said} is given.")
    options = read_options(LabelOptions, given)
    if annotators:
        options = LabelOptions(**{**vars(options), "annotators": tuple(annotators)})
    return Path(folders[0]), options


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        LabelOptions,
        "python -m alseg.label RUN_DIR [--annotator NAME] [option=value ...]",
        [
            "python -m alseg.label runs/first",
            "python -m alseg.label runs/first --annotator anna --annotator ben --overlap 0.05",
            "python -m alseg.label runs/first --port 8765 --no-browser",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        print(label(*options_from(words)))

    return command.main(arguments, lambda words: help_text(), work)
