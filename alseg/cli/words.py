"""Words ``name=value``: from a command line, or from the keys of a preset, to typed options."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from alseg.core.errors import UserError, unknown_name
from alseg.core.typed import read_node, read_word, type_hints, with_entry

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One option that is given.

    Attributes:
        name: The option, e.g. ``method.steps``.
        given: Text of a word, or a value of a YAML file.
        source: Where it stands, for messages; empty for the command line.
    """

    name: str
    given: str | yaml.Node
    source: str = ""

    @property
    def text(self) -> str | None:
        """The value if it is a text, as it is written."""
        if isinstance(self.given, str):
            return self.given
        return str(self.given.value) if isinstance(self.given, yaml.ScalarNode) else None

    def read(self, hint: Any) -> Any:
        """The value as a type hint asks for it, see `alseg.core.typed`."""
        try:
            if isinstance(self.given, str):
                return read_word(hint, self.given, self.name)
            return read_node(hint, self.given, self.name)
        except UserError as error:
            raise self.error(str(error)) from error

    def error(self, sentence: str) -> UserError:
        """An error that says where the option stands."""
        return UserError(f"{self.source}: {sentence}" if self.source else sentence)


def split(word: str) -> Setting:
    """Read a word ``name=value``.

    Raises:
        UserError: If it is none.
    """
    name, is_option, text = word.partition("=")
    if not is_option or not name or word.startswith("-"):
        raise UserError(f"cannot read {word!r}; options are written name=value.")
    return Setting(name, text)


def defaults_of(cls: type[Any]) -> dict[str, Any]:
    """Default of every field of a dataclass, `MISSING` where there is none.

    Raises:
        UserError: If it is no dataclass.
    """
    names = type_hints(cls)
    return {
        f.name: f.default if f.default_factory is MISSING else f.default_factory()
        for f in fields(cls)
        if f.name in names
    }


def put(cls: type[Any], values: dict[str, Any], option: str, setting: Setting) -> bool:
    """Read a setting into the values of a dataclass.

    Args:
        cls: The dataclass.
        values: Changed.
        option: A field, or with dots an entry of one that is a dictionary.
        setting: What is given.

    Returns:
        Whether the class has the option.
    """
    field, dot, path = option.partition(".")
    hints = type_hints(cls)
    if field not in hints:
        return False
    if not dot:
        values[field] = setting.read(hints[field])
        return True
    changed = with_entry(hints[field], values.get(field), path, setting.read)
    if changed is None:
        return False
    values[field] = changed
    return True


def made(cls: type[T], values: dict[str, Any], prefix: str = "", example: str = "VALUE") -> T:
    """Build a dataclass from values, all of which have to be there.

    Raises:
        UserError: If one has no default and is not given, or the class refuses the values.
    """
    for name, value in values.items():
        if value is MISSING:
            raise UserError(f"{prefix}{name} has no default; give {prefix}{name}={example}.")
    return cls(**values)


def unknown_option(name: str, known: Iterable[str], siblings: Sequence[str]) -> UserError:
    """Build the error for an option that does not exist.

    Args:
        name: The option.
        known: All names that would have been right.
        siblings: Those that are listed.
    """
    known = list(known)
    close = [full for full in known if full.rpartition(".")[2] == name and full != name]
    alike = [full for full in known if ("." in full) == ("." in name)]
    for names in (alike, known):
        close = close or get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close[:3])}? " if close else ""
    return UserError(f"unknown option {name!r}; {hint}Known: {', '.join(sorted(siblings))}.")


def read_options(cls: type[T], words: Sequence[str]) -> T:
    """Read the options of a command that are the fields of one dataclass.

    Args:
        cls: The dataclass.
        words: ``name=value`` each.

    Raises:
        UserError: For a word that is none, an unknown or missing option, or a value of the wrong
            type.
    """
    values = defaults_of(cls)
    for setting in map(split, words):
        if not put(cls, values, setting.name, setting):
            raise unknown_name("option", setting.name, values)
    return made(cls, values, example="PATH")
