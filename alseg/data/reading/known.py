"""What was found out about files, remembered as long as they do not change."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alseg.core.files import write_atomic

_FILE = "known_files.json"
#: Facts kept about the files of one folder; those that were asked for longest ago go first.
_MOST = 16

Stamp = tuple[int, int, int]


@dataclass
class _Folder:
    """Facts about the files of a folder, column by column: a hundred thousand load in a moment."""

    rows: dict[str, int] = field(default_factory=dict)
    """Row of each file by its name."""
    stamps: list[Stamp | None] = field(default_factory=list)
    facts: dict[str, list[str | None]] = field(default_factory=dict)
    """Column of each fact; it may be shorter than there are rows."""


class KnownFiles:
    """Facts about files by path, size and times of change.

    A fact is forgotten when the size of its file, or the time at which its content or its place
    was changed, differs from what it was when the fact was found.

    Args:
        cache: Folder to keep facts in between starts; None keeps them in memory.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._path = None if cache is None else cache / _FILE
        self._folders = _load(self._path)
        self._places: dict[str, str] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._unsaved: dict[str, set[str]] = {}

    @property
    def kept(self) -> bool:
        """Whether facts are kept in between starts."""
        return self._path is not None

    def get(self, path: Path, fact: str) -> str | None:
        """A fact about a file, None if it is not known or the file has changed."""
        text = str(path)
        above, _, name = text.rpartition("/")
        folder = self._folders.get(self._places.get(above) or self._place(above))
        if folder is None or fact not in folder.facts:
            return None
        row, column = folder.rows.get(name, -1), folder.facts[fact]
        if not 0 <= row < len(column) or self.stamp(path) != folder.stamps[row]:
            return None
        return column[row]

    def put(self, path: Path, fact: str, value: str) -> None:
        """Remember a fact.

        Args:
            path: The file; its `stamp` is taken before it is read for the fact.
            fact: Name of the fact.
            value: The fact.
        """
        found_at = self.stamp(path)
        if found_at is None:
            return
        above, _, name = str(path).rpartition("/")
        place = self._place(above)
        folder = self._folders.setdefault(place, _Folder())
        _put(folder, name, found_at, {fact: value})
        self._unsaved.setdefault(place, set()).add(name)

    def stamp(self, path: Path) -> Stamp | None:
        """Size in bytes, and times of change of content and of place in nanoseconds.

        Of the first time it was asked for, None if the file was not there: a fact that is found
        later is forgotten if the file has changed in between.
        """
        text = str(path)
        if text not in self._stamps:
            try:
                status = os.stat(text)
                found = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                self._stamps[text] = found
            except OSError:
                self._stamps[text] = None
        return self._stamps[text]

    def save(self) -> None:
        """Write what is new to the cache folder."""
        if self._path is None or not self._unsaved:
            return
        # Another process may have written since: its facts stay, unless they are about a file that
        # has changed.
        folders = _load(self._path)
        for place, names in self._unsaved.items():
            own, theirs = self._folders[place], folders.setdefault(place, _Folder())
            for name in names:
                row = own.rows[name]
                facts = {fact: c[row] for fact, c in own.facts.items() if row < len(c)}
                stamp = own.stamps[row]
                assert stamp is not None
                _put(theirs, name, stamp, {f: v for f, v in facts.items() if v is not None})
        try:
            write_atomic(self._path, json.dumps(_plain(folders), separators=(",", ":")))
        except OSError:
            return  # nothing is lost but time
        self._unsaved = {}

    def __getstate__(self) -> dict[str, Any]:
        """Processes that load images need none of it."""
        return KnownFiles().__dict__

    def _place(self, above: str) -> str:
        """The folder of a file, absolute."""
        if above not in self._places:
            self._places[above] = os.path.abspath(above or ".")
        return self._places[above]


def _put(folder: _Folder, name: str, stamp: Stamp, facts: dict[str, str]) -> None:
    row = folder.rows.setdefault(name, len(folder.stamps))
    if row == len(folder.stamps):
        folder.stamps.append(None)
    if folder.stamps[row] != stamp:
        folder.stamps[row] = stamp
        for column in folder.facts.values():
            if row < len(column):
                column[row] = None
    for fact, value in facts.items():
        column = folder.facts.setdefault(fact, [])
        if len(column) <= row:
            column += [None] * (row + 1 - len(column))
        column[row] = value


def _plain(folders: dict[str, _Folder]) -> dict[str, Any]:
    """What JSON can hold."""
    return {
        place: {
            "names": list(folder.rows),
            "stamps": list(zip(*(stamp for stamp in folder.stamps if stamp), strict=True)),
            "facts": dict(list(folder.facts.items())[-_MOST:]),
        }
        for place, folder in folders.items()
    }


def _load(path: Path | None) -> dict[str, _Folder]:
    if path is None:
        return {}
    try:
        plain = json.loads(path.read_bytes())
        return {
            place: _Folder(
                {name: row for row, name in enumerate(folder["names"])},
                list(zip(*folder["stamps"], strict=True)),
                folder["facts"],
            )
            for place, folder in plain.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # absent or damaged: nothing is lost but time
