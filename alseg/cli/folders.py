"""Options of commands in either way of writing, and the words besides them, such as run folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from alseg.cli.words import defaults_of, read_options
from alseg.core.errors import UserError, unknown_name

T = TypeVar("T")


def separate(cls: type[T], words: Sequence[str]) -> tuple[list[str], T]:
    """Options of a command, ``name=value``, ``--name value`` or ``--name``, and its other words.

    Args:
        cls: A dataclass whose fields are the options; ``--name`` alone sets one that is true or
            false, and ``name.entry=value`` an entry of a dictionary.
        words: The words after the command. Words with = whose name is no option are others.

    Raises:
        UserError: For options that do not exist, or one without its value.
    """
    defaults = defaults_of(cls)
    others: list[str] = []
    given: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        dashed = word.startswith("--")
        name, is_set, _ = word.removeprefix("--").partition("=")
        head, dot, _ = name.partition(".")
        known = isinstance(defaults.get(head), dict) if dot else name in defaults
        if not dashed and word.startswith("-"):
            raise UserError(f"cannot read {word!r}; options are written name=value or --name.")
        if dashed and not known:
            raise unknown_name("option", word, [f"--{option}" for option in defaults])
        if is_set and known:
            given.append(word.removeprefix("--"))
        elif not dashed:
            others.append(word)
        elif isinstance(defaults[head], bool):
            given.append(f"{name}=true")
        elif left:
            given.append(f"{name}={left.pop(0)}")
        else:
            raise UserError(f"--{name} stands without a value; give --{name} VALUE.")
    return others, read_options(cls, given)


def read_folders(cls: type[T], words: Sequence[str]) -> tuple[list[Path], T]:
    """Run folders, and the options of a command, see `separate`.

    Experiments are often named by their options: words with = whose name is no option are folders.

    Raises:
        UserError: For options that do not exist, or one without its value.
    """
    folders, options = separate(cls, words)
    return [Path(folder) for folder in folders], options
