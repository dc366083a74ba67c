"""What was found out about files, remembered as long as they do not change."""

import json
import os
from pathlib import Path
from typing import Any

from alseg.core.files import write_atomic

_FILE = "known_files.json"

Stamp = tuple[int, int, int]


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
        self._absolute: dict[str, str] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._unsaved: dict[str, set[str]] = {}

    @property
    def kept(self) -> bool:
        """Whether facts are kept in between starts."""
        return self._path is not None

    def get(self, path: Path, fact: str) -> Any:
        """A fact about a file, None if it is not known or the file has changed."""
        folder, name = self._place(path)
        entry = self._folders.get(folder, {}).get(name)
        if entry is None or fact not in entry[3] or self.stamp(path) != tuple(entry[:3]):
            return None
        return entry[3][fact]

    def stamp(self, path: Path) -> Stamp | None:
        """Size in bytes, and times of change of content and of place in nanoseconds.

        Of the first time it was asked for, None if the file was not there: a fact that is found
        later is forgotten if the file has changed in between.
        """
        text = str(path)
        if text not in self._stamps:
            self._stamps[text] = _stamp(text)
        return self._stamps[text]

    def put(self, path: Path, fact: str, value: Any) -> None:
        """Remember a fact.

        Args:
            path: The file; its `stamp` is taken before it is read for the fact.
            fact: Name of the fact.
            value: What JSON can hold.
        """
        found_at = self.stamp(path)
        if found_at is None:
            return
        folder, name = self._place(path)
        entries = self._folders.setdefault(folder, {})
        entry = entries.get(name)
        if entry is None or tuple(entry[:3]) != found_at:
            entry = entries[name] = [*found_at, {}]
        entry[3][fact] = value
        self._unsaved.setdefault(folder, set()).add(name)

    def save(self) -> None:
        """Write what is new to the cache folder."""
        if self._path is None or not self._unsaved:
            return
        # Another process may have written since: its facts stay, unless they are about a file that
        # has changed.
        folders = _load(self._path)
        for folder, names in self._unsaved.items():
            entries = folders.setdefault(folder, {})
            for name in names:
                own, other = self._folders[folder][name], entries.get(name)
                if other is not None and other[:3] == own[:3]:
                    own[3] = other[3] | own[3]
                entries[name] = own
        try:
            write_atomic(self._path, json.dumps(folders, separators=(",", ":")))
        except OSError:
            return  # nothing is lost but time
        self._unsaved = {}

    def __getstate__(self) -> dict[str, Any]:
        """Processes that load images need none of it."""
        return {**KnownFiles().__dict__}

    def _place(self, path: Path) -> tuple[str, str]:
        folder, name = os.path.split(path)
        if folder not in self._absolute:
            self._absolute[folder] = os.path.abspath(folder)
        return self._absolute[folder], name


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(path: Path | None) -> dict[str, dict[str, list[Any]]]:
    if path is None:
        return {}
    try:
        folders = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # absent or damaged: nothing is lost but time
    return folders if isinstance(folders, dict) else {}
