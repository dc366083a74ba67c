"""Region maps out of pickle files, as the papers' authors release theirs.

A file holds the map of one image: integers (H, W), or a dictionary in which they are ``labels``;
or those of many images, a dictionary from their names to either. See `alseg.core.pickles` for what
is read of such a file, and what is not.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.core.pickles import read_pickle
from alseg.core.progress import progress_bar
from alseg.regions.base import listed
from alseg.regions.pngs import NO_REGION, write_map

ENDINGS = (".pkl", ".pickle")


def import_maps(
    source: Path, folder: Path, images: ImageSet | None = None, progress: bool = True
) -> int:
    """Write the maps of pickle files as `alseg.regions.pngs` does, for ``regions=files``.

    What is there is written again.

    Args:
        source: A file, or a folder that is searched with all folders in it.
        folder: Where the files go.
        images: Those the maps are for: files get their names, sizes are compared, and each has to
            have a map. None = names are those of the files, or of the keys in them.
        progress: Show a progress bar.

    Returns:
        Number of maps.

    Raises:
        UserError: If a file cannot be read, or holds something else; with images, naming all that
            have no map of their size, after the others are written.
    """
    files = _files(source)
    sizes = {} if images is None else {n: images.size(i) for i, n in enumerate(images.names)}
    problems: list[str] = []
    written: dict[str, str] = {}
    for path in progress_bar(files, "maps", unit="file", hidden=not progress):
        own = path.relative_to(source).with_suffix("") if path != source else Path(path.stem)
        for key, regions in _maps(path, read_pickle(path), own.as_posix()):
            name: str | None = key
            if images is not None:
                name = named_after(key, images.names)
                if name is None:
                    continue  # of an image that is not in the pool
                if regions.shape != sizes[name]:
                    problems.append(f"{name} is {sizes[name]}, its map in {path} {regions.shape}")
                    continue
            if name in written:
                problems.append(f"{name} has maps in {written[name]} and in {path}")
                continue
            assert name is not None
            written[name] = str(path)
            write_map(regions, name, folder)
    problems += [f"{name} has no map" for name in sizes if name not in written]
    if problems:
        raise UserError(
            f"{len(written)} maps were written to {folder}, and {len(problems)} things do not fit "
            f"(height, width): {listed(problems)}."
        )
    return len(written)


def named_after(key: str, names: Sequence[str]) -> str | None:
    """The image that a released file or key is named after, by the last part of both names.

    >>> named_after("spx/aachen_000000_000019_leftImg8bit", ["aachen/aachen_000000_000019"])
    'aachen/aachen_000000_000019'
    >>> named_after("a_2.jpg", ["a", "a_2"]), named_after("a2", ["a"])
    ('a_2', None)
    """
    last = key.replace("\\", "/").rpartition("/")[2]
    best: str | None = None
    for name in names:
        short = name.rpartition("/")[2]
        rest = last.removeprefix(short) if last.startswith(short) else "none"
        longer = best is None or len(short) > len(best.rpartition("/")[2])
        if (not rest or rest[0] in "._") and longer:
            best = name
    return best


def _files(source: Path) -> list[Path]:
    """The pickle files of a source."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"there is no {source}; give a pickle file, or a folder of such.")
    files = sorted(path for path in source.rglob("*") if path.suffix in ENDINGS and path.is_file())
    if not files:
        raise UserError(f"{source} holds no file that ends in {' or '.join(ENDINGS)}.")
    return files


def _maps(path: Path, content: Any, own: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and maps in a file."""
    found = {own: _map(content)}
    if found[own] is None and isinstance(content, Mapping):
        found = {str(key): _map(value) for key, value in content.items()}
    for key, regions in found.items():
        if regions is None:
            raise UserError(
                f"{path} holds no region map for {key}; a map is integers (H, W), alone or as "
                f"'labels' of a dictionary."
            )
        if int(regions.max(initial=0)) >= NO_REGION:
            raise UserError(
                f"{path} has region ids up to {int(regions.max())} in {key}, and a PNG of 16 bits "
                f"holds {NO_REGION - 1}; number them from 0 in each image."
            )
        yield key, regions


def _map(value: Any) -> NDArray[Any] | None:
    """The map that something is or holds."""
    if isinstance(value, Mapping):
        value = value.get("labels")
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "iu":
        return value
    return None
