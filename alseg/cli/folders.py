"""Words of commands about run folders: the folders, and options in either way of writing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from alseg.cli.words import defaults_of, read_options
from alseg.core.errors import UserError, unknown_name

T = TypeVar("T")


def read_folders(cls: type[T], words: Sequence[str]) -> tuple[list[Path], T]:
    """Run folders, and the options of a command: ``name=value``, ``--name value`` or ``--name``.

    Args:
        cls: A dataclass whose fields are the options; ``--name`` alone sets one that is true or
            false.
        words: The words after the command. Words with = whose name is no option are folders:
            experiments are often named by their options.

    Raises:
        UserError: For options that do not exist, or one without its value.
    """
    defaults = defaults_of(cls)
    folders: list[Path] = []
    given: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        dashed = word.startswith("--")
        name, is_set, _ = word.removeprefix("--").partition("=")
        if not dashed and word.startswith("-"):
            raise UserError(f"cannot read {word!r}; give run folders, and options as name=value.")
        if dashed and name not in defaults:
            raise unknown_name("option", word, [f"--{known}" for known in defaults])
        if is_set and name in defaults:
            given.append(word.removeprefix("--"))
        elif not dashed:
            folders.append(Path(word))
        elif isinstance(defaults[name], bool):
            given.append(f"{name}=true")
        elif left:
            given.append(f"{name}={left.pop(0)}")
        else:
            raise UserError(f"--{name} stands without a value; give --{name} VALUE.")
    return folders, read_options(cls, given)
