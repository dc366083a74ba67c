"""Region maps as PNG files of 16 bits, for other tools, and for `alseg.regions.files`."""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.progress import progress_bar
from alseg.core.rasters import ENDINGS
from alseg.regions.base import Maps

#: What stands for pixels in no region.
NO_REGION = 2**16 - 1


def write_maps(maps: Maps, names: Sequence[str], folder: Path, progress: bool = True) -> None:
    """Write one PNG per image, ``street/0001.png`` for the image ``street/0001``.

    Ids are written as they are, and `NO_REGION` where there is none: ``regions=files
    regions.folder=FOLDER regions.void=65535`` reads the same maps.

    Args:
        maps: Of the images.
        names: Of the images, in the same order.
        folder: Where the files go; it is made where missing.
        progress: Show a progress bar.

    Raises:
        UserError: If a map has more ids than 16 bits hold.
    """
    large = [n for n, count in zip(names, maps.num_regions, strict=True) if count > NO_REGION]
    if large:
        raise UserError(
            f"{large[0]} has region ids up to {int(np.max(maps.num_regions)) - 1}, and a PNG of 16 "
            f"bits holds {NO_REGION - 1}; write no PNGs of these maps."
        )
    for index, name in enumerate(progress_bar(names, "maps", unit="image", hidden=not progress)):
        write_map(maps[index], name, folder)


def write_map(regions: NDArray[Any], name: str, folder: Path) -> Path:
    """Write one of the files of `write_maps`.

    Args:
        regions: Region ids, (H, W), below `NO_REGION`; negative = in no region.
        name: Of the image.
        folder: Where the file goes; it is made where missing.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.where(regions < 0, NO_REGION, regions).astype(np.uint16)).save(buffer, "PNG")
    pure = PurePosixPath(name)
    stem = pure.with_suffix("") if pure.suffix.lower() in ENDINGS else pure
    path = folder / f"{stem}.png"
    write_atomic(path, buffer.getvalue())
    return path
