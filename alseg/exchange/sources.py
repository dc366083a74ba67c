"""Files that come from a tool, read with suspicion: bounded, without code, entities or links."""

import json
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from alseg.core.errors import UserError

#: Bytes of all files together, also of those in an archive when they are unpacked.
MOST_BYTES = 1 << 30
_MOST_FILES = 200_000
_MOST_DEPTH = 64


class Source:
    """A file, a folder, or a zip archive.

    Args:
        path: Where it lies.

    Raises:
        UserError: If it is not there, or too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._files: dict[str, Path | zipfile.ZipInfo] = {}
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                self._files = dict(_below(path))
            elif stat.S_ISREG(mode) and zipfile.is_zipfile(path):
                self._archive = zipfile.ZipFile(path)
                entries = self._archive.infolist()
                self._files = {e.filename: e for e in entries if not e.is_dir()}
            elif stat.S_ISREG(mode):
                self._files = {path.name: path}
            else:
                raise UserError(f"{path} is not a file; give what the tool exported.")
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"cannot read {path} ({error}); give what the tool exported."
            ) from error
        total = sum(
            file.file_size if isinstance(file, zipfile.ZipInfo) else file.stat().st_size
            for file in self._files.values()
        )
        if total > MOST_BYTES or len(self._files) > _MOST_FILES:
            raise UserError(
                f"{path} holds {len(self._files)} files of {total >> 20} MiB together, too much "
                f"for answers; export the annotations without the pictures."
            )

    def names(self, ending: str) -> list[str]:
        """Names of the files with an ending, in order."""
        return sorted(name for name in self._files if name.lower().endswith(ending))

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            UserError: If it cannot be read.
        """
        file = self._files[name]
        try:
            if isinstance(file, Path):
                return file.read_bytes()
            assert self._archive is not None
            with self._archive.open(file) as member:
                content = member.read(file.file_size + 1)
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise UserError(f"cannot read {name} in {self.path} ({error}).") from error
        if len(content) != file.file_size:
            raise UserError(f"{name} in {self.path} is not as long as the archive says.")
        return content

    def one(self, ending: str) -> str:
        """The name of the only file with an ending.

        Raises:
            UserError: If there is none, or several.
        """
        names = self.names(ending)
        if len(names) != 1:
            there = "no file" if not names else f"{len(names)} files"
            raise UserError(
                f"{self.path} holds {there} named *{ending} where one is expected; give that file."
            )
        return names[0]

    def xml(self, name: str) -> ElementTree.Element:
        """An XML file without a document type.

        Raises:
            UserError: If it is no XML, declares a document type, or is nested too deeply.
        """
        content = self.read(name)
        try:
            _check_xml(content)
            return ElementTree.fromstring(content)
        except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
            raise UserError(
                f"{name} in {self.path} is not the XML of annotations ({error})."
            ) from error

    def json(self, name: str) -> Any:
        """A JSON file.

        Raises:
            UserError: If it is none.
        """
        try:
            return json.loads(self.read(name), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} in {self.path} is not JSON ({error}).") from error


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield PurePosixPath(path.relative_to(folder)).as_posix(), path


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _check_xml(content: bytes) -> None:
    """Refuse what an XML parser could be made to expand or to sink in."""
    parser = expat.ParserCreate()
    depth = 0

    def doctype(*_: object) -> None:
        raise ValueError("it declares a document type, which annotations never do")

    def start(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError("it is nested too deeply")

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(content, True)


def get(thing: object, *keys: str) -> Any:
    """What lies behind keys of nested JSON objects; None where one is missing.

    >>> get({"a": {"b": 1}}, "a", "b"), get({"a": []}, "a", "b")
    (1, None)
    """
    for key in keys:
        if not isinstance(thing, dict):
            return None
        thing = thing.get(key)
    return thing


def items(thing: object) -> list[Any]:
    """A JSON list; empty for anything else."""
    return thing if isinstance(thing, list) else []
