"""Names the command understands, and the classes behind them, imported when they are used."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from alseg.core.errors import unknown_name


class Registry(Mapping[str, str]):
    """A readable dict from a name to ``"module:Class"``, resolved lazily.

    Every class named here is a frozen dataclass: its fields are the options of the command (the
    one place where a default is written), its methods do the work.

    Args:
        what: What the names stand for, e.g. ``"method"``.
        entries: The classes by name.
        identity: Whether the choice, and the options of what is chosen, decide the results of a
            run; else both may change between two starts of it.

    >>> Registry("animal", {"fraction": "fractions:Fraction"}).resolve("fraction").__name__
    'Fraction'
    """

    def __init__(self, what: str, entries: dict[str, str], identity: bool = True) -> None:
        self.what = what
        self.identity = identity
        self._entries: dict[str, str | type[Any]] = dict(entries)

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def resolve(self, name: str) -> type[Any]:
        """Import the class behind a name.

        Raises:
            UserError: If the name is unknown; the sentence names the close matches.
        """
        if name not in self._entries:
            raise unknown_name(self.what, name, self)
        entry = self._entries[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        return getattr(import_module(module), attribute)

    def register(self, name: str, cls: type[Any]) -> None:
        """Add a class of your own, e.g. from a notebook.

        Raises:
            ValueError: If the name is taken by another class.
        """
        if self._entries.get(name, cls) is not cls:
            raise ValueError(f"{self.what} {name!r} is already registered")
        self._entries[name] = cls
