"""The one kind of error a user can mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input: one sentence that says what is wrong, where, and how to mend it.

    ``python -m alseg.run`` prints the sentence without a traceback and exits with status 2.
    """


class PeerDiedError(UserError):
    """Another process of a job, or a helper, has died."""


def first_line(error: BaseException) -> str:
    r"""What an error says, without what follows for its makers; its kind if it says nothing.

    >>> first_line(OSError("no such place\nhelp: ...")), first_line(EOFError())
    ('no such place', 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that is not among the known ones.

    Args:
        what: What the name stands for, e.g. ``"method"``.
        name: The name that was given.
        known: All names that would have been right.

    Returns:
        An error that names the close matches first, then all known names.

    >>> print(unknown_name("method", "mulqery", ["mulquery", "random"]))
    unknown method 'mulqery'; did you mean 'mulquery'? Known: mulquery, random.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return UserError(f"unknown {what} {name!r}; {hint}Known: {', '.join(names)}.")
