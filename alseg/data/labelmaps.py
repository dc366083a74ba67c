"""Label maps as PNG or GeoTIFF files: pixels are class ids, palettes show the classes' colours."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import VOID
from alseg.core.rasters import NODATA_TAG, open_picture

#: Keyword of the text chunk that says what made a file.
_ORIGIN = "alseg"


def write_label_map(
    path: Path, labels: NDArray[np.uint8], colors: NDArray[np.uint8], origin: str
) -> None:
    """Write a label map, whole or not at all.

    Args:
        path: A ``.png`` file.
        labels: Class ids, (H, W), uint8.
        colors: Display colour per class, (C, 3), uint8.
        origin: What made it, for `read_origin`.
    """
    picture = Image.fromarray(labels)
    palette = np.zeros((256, 3), dtype=np.uint8)  # in full, or Pillow would pack pixels into bits
    palette[: len(colors)] = colors
    picture.putpalette(palette.tobytes())
    info = PngInfo()
    info.add_text(_ORIGIN, origin)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    write_atomic(path, buffer.getvalue())


def write_geotiff(
    path: Path,
    labels: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    geo: Mapping[int, tuple[int, int, Any]],
) -> None:
    """Write a label map with a place on earth, whole or not at all.

    Args:
        path: A ``.tif`` file.
        labels: Class ids, (H, W), uint8; `VOID` is declared to be no data.
        colors: Display colour per class, (C, 3), uint8.
        geo: Tags of the image it is of, see `alseg.core.rasters.Header.geo`.
    """
    import tifffile

    palette = np.zeros((3, 256), dtype=np.uint16)
    palette[:, : len(colors)] = colors.T.astype(np.uint16) * 257
    nodata = f"{VOID}\0"
    tags = [(code, kind, count, value, True) for code, (kind, count, value) in geo.items()]
    tags.append((NODATA_TAG, 2, len(nodata), nodata, True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        labels,
        photometric="palette",
        colormap=palette,
        compression="zlib",
        metadata=None,
        extratags=tags,
    )
    write_atomic(path, buffer.getvalue())


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Read what `write_label_map` wrote: class ids, (H, W), uint8.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        with open_picture(path) as image:
            return np.array(image)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and start again.") from error


def read_origin(path: Path) -> str | None:
    """What made a file, None if it does not say or cannot be read."""
    try:
        with open_picture(path) as image:
            return image.info.get(_ORIGIN)
    except OSError:
        return None
