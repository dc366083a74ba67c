"""Label maps as PNG files: pixels are class ids, the palette holds the classes' colours."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alseg.core.errors import UserError
from alseg.core.files import write_atomic

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


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Read what `write_label_map` wrote: class ids, (H, W), uint8.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.array(image)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and start again.") from error


def read_origin(path: Path) -> str | None:
    """What made a file, None if it does not say or cannot be read."""
    try:
        with Image.open(path) as image:
            return image.info.get(_ORIGIN)
    except OSError:
        return None
