"""What all commands share: their words, their help, and the statuses they end with."""

import logging
import sys
from collections.abc import Callable, Sequence

from alseg.cli.faults import in_worker, sentence_of
from alseg.core.errors import UserError

#: Exit status where one of several runs failed, as that of a crash.
FAILED = 1
#: Exit status of bad input, and of folders or disks that cannot be used.
BAD_INPUT = 2
#: Exit status of a run that waits for a person's answers.
WAITING = 3


def main(
    arguments: Sequence[str] | None,
    help_text: Callable[[list[str]], str],
    work: Callable[[list[str]], int | None],
    needs_words: bool = True,
) -> int:
    """Do a command's work, or print its help.

    Args:
        arguments: The words after the command; None for those of this process.
        help_text: Takes the words besides ``--help``.
        work: Takes the words; returns the exit status, None for 0.
        needs_words: Whether the command without words prints its help.

    Returns:
        The exit status: 0, `BAD_INPUT` or `WAITING`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alseg").setLevel(logging.INFO)
    flags = {"-h", "--help"}
    try:
        if flags & set(given) or (needs_words and not given):
            print(help_text([word for word in given if word not in flags]))
            return 0
        return work(given) or 0
    except UserError as error:
        print(f"error: {in_worker(error)}", file=sys.stderr)
    except Exception as error:
        told = sentence_of(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
    return BAD_INPUT
