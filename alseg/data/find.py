"""Find the files of a data set by pattern, and give each a name."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from alseg.core.errors import UserError
from alseg.data.checks import Problems
from alseg.data.files import EXTENSIONS


def find_folder(path: str, what: str) -> Path:
    """A folder the user named.

    Args:
        path: The folder; ``~`` is the home folder.
        what: What it should be, for the message.

    Raises:
        UserError: If it is not there.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder.absolute()} is not a folder; set data.root to {what}.")
    return folder


def find_files(root: Path, pattern: str, problems: Problems) -> dict[str, Path]:
    """Find image files below a folder.

    A pattern is a relative path with ``*`` for any text inside one folder or file name and ``**``
    for text with slashes. It names folders, all files below which are taken, or the files
    themselves, ending included. What the stars stand for, and the path below the folder, make the
    name:

    ==================  ===============================  ====================
    pattern             file                             name
    ==================  ===============================  ====================
    ``images``          ``images/a/x.jpg``               ``a/x``
    ``*/images``        ``tile_1/images/x.jpg``          ``tile_1/x``
    ``*_sat.jpg``       ``7_sat.jpg``                    ``7``
    ==================  ===============================  ====================

    Args:
        root: Folder the pattern is relative to.
        pattern: As above.
        problems: Receives names that occur twice, and the fact that nothing was found.

    Returns:
        Path of each name, in the order of the names.
    """
    match = _compile(pattern)
    found: dict[str, Path] = {}
    for path in sorted(_walk(root)):
        name = match(path.relative_to(root).as_posix())
        if name is None:
            continue
        if name in found:
            problems.add("names that occur twice", f"{name}: {found[name]} and {path}")
        else:
            found[name] = path
    if not found:
        endings = ", ".join(sorted(EXTENSIONS))
        problems.add("no images", f"nothing fits {root / pattern} (endings: {endings})")
    return dict(sorted(found.items()))


def read_list(path: Path, known: Iterable[str], problems: Problems) -> list[str]:
    """Read a list file: one image name per line; an ending, if any, is dropped.

    Args:
        path: The file.
        known: Names that exist.
        problems: Receives names without a file, and names listed twice.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of names ({error}).") from error
    known = set(known)
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        ending = Path(name).suffix
        if name not in known and ending.lower() in EXTENSIONS:
            name = name.removesuffix(ending)
        if name in names:
            problems.add("names that occur twice", f"{name}: {path}, lines {names[name]}, {number}")
        elif name not in known:
            problems.add("listed names without an image", f"{name}: {path}, line {number}")
        else:
            names[name] = number
    return list(names)


def _compile(pattern: str) -> Callable[[str], str | None]:
    """Function from a relative path to the name the pattern gives it, or None."""
    if pattern in ("", "."):
        folder, file = re.compile(r"(.+)\.\w+"), re.compile(r"(?!)")
    else:
        parts = re.split(r"(\*\*|\*)", pattern.strip("/"))
        stars = {"*": "([^/]*)", "**": "(.*)"}
        text = "".join(stars.get(part, re.escape(part)) for part in parts)
        folder, file = re.compile(rf"{text}/(.+)\.\w+"), re.compile(text)

    def match(path: str) -> str | None:
        if found := folder.fullmatch(path):
            return "/".join(group for group in found.groups() if group)
        if found := file.fullmatch(path):
            name = "/".join(group for group in found.groups() if group)
            return name.removesuffix(Path(path).suffix) or None
        return None

    return match


def _walk(root: Path) -> Iterable[Path]:
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            # ".x.jpg": thumbnails and resource forks that file managers leave behind
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                yield Path(folder, name)
