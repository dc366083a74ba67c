"""Find the files of a data set by pattern, and give each a name.

Names are in composed Unicode (NFC), however the disk spells them: ``ü`` may be one character or a
``u`` with two dots, and one tool may have written the images, another the masks. Folders are
followed through links, but never in a circle.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

from alseg.core.errors import UserError
from alseg.core.files import uncollected
from alseg.data.checks import Problems
from alseg.data.files import EXTENSIONS

#: Endings that mean JPEG, as .jpg does.
_JPEG = frozenset({".jfif", ".jpe", ".jif", ".pjpeg", ".pjp"})
#: Endings of pictures and of arrays, whether or not they are read.
_PICTURES = (
    EXTENSIONS
    | _JPEG
    | {".gif", ".npy", ".npz", ".mat", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dib"}
    | {".jp2", ".j2k", ".jpx", ".jxl", ".heic", ".heif", ".avif", ".exr", ".psd"}
    | {".dcm", ".nii", ".nrrd", ".mha", ".img", ".vrt", ".ecw", ".sid", ".bil", ".hdf", ".nc"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".gtiff", ".tf8", ".btf", ".apng"}
)


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


@uncollected()
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
    match = _compile(normalize("NFC", pattern))
    found: dict[str, Path] = {}
    unread: list[str] = []
    deepest = _deepest(root, pattern)
    start = len(os.path.join(deepest, ""))
    above = "" if deepest == root else f"{deepest.relative_to(root).as_posix()}/"
    for path, ending in sorted(_walk(str(deepest), problems)):
        relative = composed(above + path[start:].replace(os.sep, "/"))
        name = match(relative)
        if name is None:
            continue
        if ending not in EXTENSIONS:
            unread.append(path)
        elif name in found:
            problems.add("names that occur twice", f"{name}: {found[name]} and {path}")
        else:
            found[name] = Path(path)
    tell_unread(unread, problems)
    if not found:
        endings = ", ".join(sorted(EXTENSIONS))
        problems.add("no images", f"nothing fits {root / pattern} (endings: {endings})")
    return dict(sorted(found.items()))


def composed(name: str) -> str:
    """A name in composed Unicode (NFC)."""
    return name if name.isascii() else normalize("NFC", name)


def tell_unread(paths: Iterable[str], problems: Problems) -> None:
    """Tell of pictures that are left out because of their endings, by ending.

    Args:
        paths: The files.
        problems: Receives them.
    """
    unread = sorted(paths)
    endings = Counter(os.path.splitext(path)[1].lower() for path in unread)
    for ending, count in sorted(endings.items()):
        first = next(path for path in unread if path.lower().endswith(ending))
        same = " (the same as .jpg: rename)" if ending in _JPEG else ""
        problems.add(
            "pictures whose ending is not read",
            f"{count} of {ending}{same}, such as {first}",
        )


def find_twice(images: Mapping[str, Path], problems: Problems) -> None:
    """Tell of images that are found twice, since a link leads to their folder.

    Args:
        images: Path of each image by name.
        problems: Receives them.
    """
    folders: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    for name, path in images.items():
        above, _, file = str(path).rpartition("/")
        if above not in folders:
            folders[above] = os.path.realpath(above)
        first = found.setdefault((folders[above], file), name)
        if first != name:
            problems.add(
                "images found twice through a link", f"{images[first]} and {path} are one file"
            )


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
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of names ({error}); save it as UTF-8 text."
        ) from error
    known = set(known)
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = normalize("NFC", line.strip())
        if not name:
            continue
        if name not in known and "\\" in name:  # a list that was written on Windows
            name = name.replace("\\", "/")
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


def read_text(path: Path) -> str:
    """A text file in UTF-8, without the byte-order mark that some editors begin it with.

    Raises:
        OSError: If it cannot be opened.
        UnicodeDecodeError: If it is in another encoding.
    """
    return path.read_text(encoding="utf-8-sig")


def fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern in which ``*`` stands for any text, slashes included.

    Nothing else has a meaning: brackets and question marks are characters of names.

    >>> fits("tile [1]/a", "tile [1]/*"), fits("tile 1/a", "tile [1]/*")
    (True, False)
    """
    return _fitting(pattern).fullmatch(name) is not None


@lru_cache(maxsize=8)
def _fitting(pattern: str) -> re.Pattern[str]:
    text = ".*".join(map(re.escape, composed(pattern).split("*")))
    return re.compile(text, re.DOTALL)


def _compile(pattern: str) -> Callable[[str], str | None]:
    """Function from a relative path to the name the pattern gives it, or None."""
    if pattern in ("", "."):
        folder, file = re.compile(r"(.+)\.\w+"), re.compile(r"(?!)")
    else:
        parts = re.split(r"(\*\*|\*)", pattern.strip("/"))
        stars = {"*": "([^/]*)", "**": "(.*)"}
        text = "".join(stars.get(part, re.escape(part)) for part in parts)
        folder, file = re.compile(rf"{text}/(.+)\.\w+"), re.compile(text)

    literal = "" if pattern in ("", ".") else f"{pattern.strip('/')}/"

    def match(path: str) -> str | None:
        if "*" not in pattern and path.startswith(literal):
            return path[len(literal) : path.rindex(".")] or None
        if found := folder.fullmatch(path):
            return "/".join(group for group in found.groups() if group)
        if found := file.fullmatch(path):
            name = "/".join(group for group in found.groups() if group)
            return name.removesuffix(Path(path).suffix) or None
        return None

    return match


def _deepest(root: Path, pattern: str) -> Path:
    """The folder that everything a pattern can fit lies in."""
    for part in pattern.strip("/").split("/"):
        if "*" in part or part in ("", ".", "..") or not (root / part).is_dir():
            break
        root = root / part
    return root


def _walk(root: str, problems: Problems) -> Iterator[tuple[str, str]]:
    """Files below a folder that are pictures by their endings, which come with them."""
    # Each folder comes with the real paths of those it was reached through.
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, (os.path.realpath(root),))]
    while waiting:
        folder, chain = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # ".x.jpg": thumbnails and resource forks that file managers leave behind
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        real = f"{chain[-1]}{os.sep}{entry.name}"
                        if entry.is_symlink():
                            real = os.path.realpath(entry.path)
                            if any(_holds(real, upper) for upper in chain):
                                continue  # the link leads back to where it was come from
                        waiting.append((entry.path, (*chain, real)))
                        continue
                    ending = f".{entry.name.rpartition('.')[2].lower()}"
                    if ending in _PICTURES:
                        yield entry.path, ending
        except OSError as error:
            problems.add("folders that cannot be opened", f"{folder} ({error.strerror})")


def _holds(folder: str, other: str) -> bool:
    return other == folder or other.startswith(folder.rstrip(os.sep) + os.sep)
