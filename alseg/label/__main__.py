"""``python -m alseg.label RUN_DIR``: answer the questions of a run in a browser."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from alseg.core.errors import UserError

#: Seconds the server stays up after the round is finished, for the page to say so.
_FAREWELL = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the round that waits until it is answered.

    Args:
        arguments: Words of the command line; None means those of the process.

    Returns:
        Exit status: 0, also when it is stopped by Ctrl-C, or 2 after an error a user can mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m alseg.label",
        description="Answer the questions of a run that waits, in a browser. Every answer is on "
        "the disk before the next question appears; the command can be stopped and given again at "
        "any instant.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the run folder")
    parser.add_argument(
        "--annotator",
        action="append",
        default=[],
        metavar="NAME",
        help="who answers (your user name); give it several times for several people, each gets a "
        "link",
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port to listen on (any that is free)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (127.0.0.1: this machine only)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the link and open no browser"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the questions that is asked twice, to see how well annotators agree, such "
        "as 0.05 (0)",
    )
    parser.add_argument(
        "--suggestions",
        action="store_true",
        help="show what the run's model would answer; saves time, and biases people",
    )
    options = parser.parse_args(arguments)
    try:
        return _label(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _label(options: argparse.Namespace) -> int:
    from alseg.label.serve import Server, annotator_names, check_installed
    from alseg.label.session import find_waiting, read_session

    check_overlap(options.overlap, "--overlap")
    names = annotator_names(options.annotator)
    folder = find_waiting(options.run_dir)
    session = read_session(folder)
    check_installed()
    from alseg.label.desk import Desk
    from alseg.label.server import Office
    from alseg.label.suggestions import suggest_from_run

    hints = suggest_from_run(session, options.run_dir) if options.suggestions else None
    desk = Desk(session, options.overlap, hints)
    try:
        if not desk.finished.is_set():
            office = Office(desk)
            browser = not options.no_browser
            with Server(office, names, options.host, options.port, browser):
                print(f"Round {desk.round}: {len(session)} questions. Ctrl-C stops; all is kept.")
                while not desk.finished.wait(0.2):
                    pass
                desk.hand_in(folder)
                time.sleep(_FAREWELL)
        answers = desk.hand_in(folder)
    except KeyboardInterrupt:
        print("\nStopped; give the same command again to go on.")
        return 0
    finally:
        desk.close()
    print(f"Round {desk.round} has {len(answers)} answers. Give the run's command again.")
    return 0


def check_overlap(overlap: float, option: str) -> None:
    """Refuse a share that is none.

    Raises:
        UserError: Naming the option.
    """
    if not 0 <= overlap <= 1:
        raise UserError(f"{option} is {overlap:g}; give a share from 0 to 1, such as 0.05.")


if __name__ == "__main__":
    sys.exit(main())
