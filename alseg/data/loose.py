"""Images that belong to no data set: a file, a folder, or a list of files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

from alseg.core.errors import UserError
from alseg.data.checks import Problems
from alseg.data.files import EXTENSIONS
from alseg.data.find import find_files, read_text


def find_images(given: Path, problems: Problems) -> dict[str, Path]:
    """Find the images a user named, and give each a name.

    ====================  ==========================================================
    given                 names
    ====================  ==========================================================
    an image              its name
    a folder              paths below it; it is searched with all folders in it
    a ``.txt`` file       one path per line, absolute or relative to the file; paths
                          below the deepest folder that holds all of them
    ====================  ==========================================================

    File endings are not part of the names.

    Args:
        given: As above.
        problems: Receives names that occur twice, listed files that are not there, and the fact
            that nothing was found.

    Returns:
        Path of each name, in the order of the names.

    Raises:
        UserError: If it is none of these, or the list cannot be read.
    """
    if given.is_dir():
        return find_files(given, "", problems)
    if given.suffix.lower() == ".txt" and given.is_file():
        return _named(_listed(given, problems), problems)
    if given.suffix.lower() in EXTENSIONS and given.is_file():
        return {normalize("NFC", given.stem): given}
    endings = ", ".join(sorted(EXTENSIONS))
    raise UserError(
        f"{given} is no folder, no image ({endings}) and no .txt list that is there; give one of "
        f"them."
    )


def _listed(path: Path, problems: Problems) -> list[Path]:
    """The files of a list."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of images ({error}); save it as UTF-8 text."
        ) from error
    listed: dict[Path, int] = {}
    for number, text in enumerate(map(str.strip, lines), start=1):
        if not text:
            continue
        file = _file(path.parent, text)
        if not file.is_file():
            problems.add("listed names without an image", f"{text}: {path}, line {number}")
        elif file in listed:
            twice = f"{text}: {path}, lines {listed[file]}, {number}"
            problems.add("names that occur twice", twice)
        else:
            listed[file] = number
    if not any(map(str.strip, lines)):
        problems.add("no images", f"{path} lists none")
    return list(listed)


def _file(folder: Path, text: str) -> Path:
    """The file a line names, however the disk spells its accents and the list its slashes."""
    spellings = [text, normalize("NFC", text), normalize("NFD", text)]
    spellings += [spelling.replace("\\", "/") for spelling in spellings]
    files = [(folder / Path(spelling).expanduser()).resolve() for spelling in spellings]
    return next((file for file in files if file.is_file()), files[0])


def _named(files: Sequence[Path], problems: Problems) -> dict[str, Path]:
    """Name files by their paths below the folder that holds all of them."""
    shared = list(_common_start([file.parent.parts for file in files]))
    found: dict[str, Path] = {}
    for file in files:
        name = normalize("NFC", file.relative_to(Path(*shared)).with_suffix("").as_posix())
        if name in found:
            problems.add("names that occur twice", f"{name}: {found[name]} and {file}")
        else:
            found[name] = file
    return dict(sorted(found.items()))


def _common_start(paths: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            return
        yield parts[0]
