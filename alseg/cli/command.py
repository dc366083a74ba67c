"""What all commands share: their words, their help, and the statuses they end with."""

import errno
import logging
import sys
from collections.abc import Callable, Sequence

from alseg.core.errors import UserError

#: Exit status where one of several runs failed, as that of a crash.
FAILED = 1
#: Exit status of bad input, and of folders or disks that cannot be used.
BAD_INPUT = 2
#: Exit status of a run that waits for a person's answers.
WAITING = 3

_MENDS = {
    errno.ENOSPC: "free some space there, or give another folder",
    errno.EDQUOT: "free some space there, or give another folder",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "give a folder that may be read and written, or change its permissions",
    errno.EPERM: "give a folder that may be read and written, or change its permissions",
    errno.ENOTDIR: "a part of this path is a file: give a folder",
    errno.EISDIR: "this is a folder: give a file, or take it away",
    errno.EEXIST: "take it away, or give another folder",
    errno.ENOENT: "it may have been moved while the command was at work",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n 4096), or give workers=0",
    errno.ENFILE: "the machine has too many open files: close some programs",
    errno.ENOMEM: "free some memory, or give fewer workers",
    errno.EIO: "the disk or the network drive has failed: check it",
    errno.ESTALE: "the network drive has lost the file: check it",
    errno.ENOLCK: "the file system has no locks: give a folder on another one",
    errno.ELOOP: "a link leads back to itself: take it away",
}


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
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if not is_known(error):
            raise
        print(f"error: {of_the_system(error)}", file=sys.stderr)
    return BAD_INPUT


def is_known(error: OSError) -> bool:
    """Whether `of_the_system` knows how to mend an error."""
    return error.errno in _MENDS


def of_the_system(error: OSError) -> str:
    """An error of the operating system as a sentence that says where, and how to mend it.

    >>> print(of_the_system(OSError(errno.ENOSPC, "No space left on device", "runs/a")))
    runs/a: no space left on device; free some space there, or give another folder, then give the \
same command again.
    """
    reason = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' and '.join(names)}: " if names else ""
    mend = _MENDS.get(error.errno or 0, "mend that")
    return f"{where}{reason[:1].lower()}{reason[1:]}; {mend}, then give the same command again."
